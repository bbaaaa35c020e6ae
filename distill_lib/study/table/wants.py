"""All that the notebooks ask of the store, in pieces that can be made apart from one another."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from distill_lib.attacks.poisoned_labels import PERTURBED
from distill_lib.study import lists
from distill_lib.study.cells import Cell
from distill_lib.study.datafree.stages import DataFreeStages
from distill_lib.study.datafree.study import open_datafree
from distill_lib.study.necessity import needed
from distill_lib.study.session import Study
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.study.store import Artefact
from distill_lib.study.sweeps import to_test, wanted
from distill_lib.study.undistillable.cells import TEACHER
from distill_lib.study.undistillable.stages import NORMAL
from distill_lib.study.undistillable.study import open_undistillable
from distill_lib.study.workers import Task

UNKNOWN = -1  # target class of an attack that finds it
# Settings that an attacked encoder depends on: a point that changes them has one of its own.
UPSTREAM = ("encoder", "pretraining", "injection", "poisoned_data", "ctrl")
BEFORE = ("encoder", "pretraining")  # those that the clean encoder depends on


class Listing(Stages):
    """Stages that find no target class: to list what is to be made, without making it."""

    def target(self, downstream: str, seed: int) -> int:
        """The target class where it is a setting."""
        return super().target(downstream, seed) if self.backdoor.settled else UNKNOWN


class Found(Stages):
    """Stages that know a target class where it was found before: to look at what was made, without making more."""

    def target(self, downstream: str, seed: int) -> int:
        """The target class where it is a setting or in the store."""
        named = replace(self, store=Naming(self.store.root))
        try:
            return Stages.target(named, downstream, seed)
        except FileNotFoundError:
            return UNKNOWN


@dataclass(frozen=True)
class Want:
    """Something to make, and the job that makes it.

    Attributes:
        job: The job's name: what, where, seed.
        task: What makes it.
        after: Names of jobs that make what it is made from, where the table has them.
        cost: What it takes, by its name in the profile's `minutes`.
        shared: What the job's wants of this kind are made from and share, likewise: it counts once a job.
        file: Files its rows for the result tables; None: it has none.
    """

    job: str
    task: Task
    after: tuple[str, ...] = ()
    cost: str = "cell"
    shared: tuple[str, ...] = ()
    file: Callable[[], Any] | None = None


def clean_encoder(stages: Stages, seed: int) -> Artefact:
    """The clean encoder."""
    return stages.pretrained(seed)


def attacked_encoder(stages: Stages, downstream: str, seed: int) -> Artefact:
    """The attacked encoder; one of an attack on the data needs no clean one."""
    return stages.attacked(seed, downstream)


def surrogate(stages: Stages, settings: Any, seed: int) -> Artefact:
    """The clean classifier by which some triggers perturb images."""
    return DataFreeStages(stages, settings).classifier("", seed)


# ---- the first study -------------------------------------------------------------------------------------------------


def _clean_job(seed: int) -> str:
    return f"pretrain-s{seed}"


def _attack_job(study: Study, downstream: str, seed: int, attack: str) -> str:
    """An attack on the pre-training images makes one encoder for all downstream sets."""
    return f"attack-{attack}-{f's{seed}' if _is_on_data(study, attack) else f'{downstream}-s{seed}'}"


def _is_on_data(study: Study, attack: str) -> bool:
    return study.under(attack).backdoor.poison is not None


def _at(part: str, cell: Cell) -> str:
    return f"{part}-{cell.attack}-{cell.downstream}-s{cell.seed}"


def _cells(study: Study, part: str, cells: Iterable[Cell], *after: str) -> Iterator[Want]:
    """Cells at the profile's settings, a job a place."""
    yield from _wants(study, part, _plain(cells), after)


def _plain(cells: Iterable[Cell]) -> lists.Wanted:
    return [(cell, None) for cell in cells]


def _wants(
    study: Study, part: str, pairs: lists.Wanted, after: Iterable[str] = ("headline",), **named: str
) -> Iterator[Want]:
    for (cell, off), task in zip(pairs, study.tasks(pairs), strict=True):
        file = partial(study.measure, [cell], off, **named)
        yield Want(_at(part, cell), task, tuple(_at(each, cell) for each in after), file=file)


def _attack(study: Study) -> Iterator[Want]:
    for downstream, seed, attack in study.places():
        yield Want(_clean_job(seed), Task(study.profile, clean_encoder, (seed,)), cost="pretrain")
        job, on_data = _attack_job(study, downstream, seed, attack), _is_on_data(study, attack)
        first = study.attacks()[attack].downstream[0] if on_data else downstream
        task = Task(study.under(attack).profile, attacked_encoder, (first, seed))
        yield Want(job, task, () if on_data else (_clean_job(seed),), "pretrain" if on_data else "attack")
    clean, attacked = lists.attack_cells(study)
    for file, cell, task in [
        *((study.measure, *each) for each in zip(clean + attacked, study.tasks(_plain(clean + attacked)), strict=True)),
        *((study.random, *each) for each in zip(clean, study.floors(clean), strict=True)),
    ]:
        after = _clean_job(cell.seed), _attack_job(study, cell.downstream, cell.seed, cell.attack)
        yield Want(_at("rates", cell), task, after, file=partial(file, [cell]))


def _teacher(study: Study) -> Iterator[Want]:
    cells, plain = lists.teacher_cells(study)
    yield from _cells(study, "headline", plain, "rates")  # first: the others share its teacher and warm-up
    yield from _cells(study, "teachers", cells, "headline")


def _student(study: Study) -> Iterator[Want]:
    yield from _cells(study, "students", lists.student_cells(study), "headline")


def _loss(study: Study) -> Iterator[Want]:
    usual, released = lists.loss_cells(study)
    yield from _cells(study, "losses", usual, "headline")
    yield from _wants(study, "losses", _plain(released), loss_form="released")


def _analysis(study: Study) -> Iterator[Want]:
    yield from _cells(study, "headline", lists.headline_cells(study), "rates")
    yield from _wants(study, "necessity", needed(study, study.compared()))
    yield from _wants(study, "recipes", to_test(study, study.everywhere()))


def _robustness(study: Study) -> Iterator[Want]:
    """A job a sweep and place; points with an attacked encoder of their own have a job of their own."""
    for sweep in study.profile.sweeps:
        own: dict[str, int] = {}
        for (cell, point), task in zip(pairs := wanted(study, sweep), study.tasks(pairs), strict=True):
            off = {key: value for key, value in study.profile.off(point).items() if _table(key) in UPSTREAM}
            number = f".{own.setdefault(repr(off), len(own) + 1)}" if off else ""
            job = _at(f"sweep-{_slug(sweep.name)}{number}", cell)
            file = partial(study.measure, [cell], point)
            yield Want(job, task, (_at("headline", cell),), shared=_upstream(study, cell, off), file=file)


def _upstream(study: Study, cell: Cell, off: dict[str, Any]) -> tuple[str, ...]:
    """What such a point costs besides its cells."""
    clean = ("pretrain",) if any(_table(key) in BEFORE for key in off) else ()
    return (*clean, "pretrain" if _is_on_data(study, cell.attack) else "attack") if off else ()


def _table(key: str) -> str:
    return key.partition(".")[0]


def _slug(name: str) -> str:
    """A sweep's name as a word."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("'", "")).strip("_")


# ---- the sibling studies ---------------------------------------------------------------------------------------------


def _data_free(study: Study) -> Iterator[Want]:
    """A job a trigger, seed and method, after the one of the teacher."""
    without = open_datafree(study)
    profile, settings = study.profile, without.settings
    for task in without.tasks():
        _, subject, others = task.arguments
        file = partial(without.measure, [subject], others)
        where = f"{subject.attack}-s{subject.seed}"
        if subject.stage == TEACHER:
            clean = (f"datafree-surrogate-s{subject.seed}",) if subject.attack in PERTURBED else ()
            for job in clean:
                yield Want(job, Task(profile, surrogate, (settings, subject.seed)), cost="classifier")
            yield Want(f"datafree-teacher-{where}", task, clean, "classifier", file=file)
        else:
            job, after = f"datafree-{subject.method}-{where}", (f"datafree-teacher-{where}",)
            yield Want(job, task, after, subject.method, file=file)
    for cell, off in without.encoder_cells():
        after = _attack_job(study, cell.downstream, cell.seed, cell.attack), _at("rates", cell)
        (task,) = study.tasks([(cell, off)])
        yield Want(_at("datafree-bridge", cell), task, after, file=partial(study.measure, [cell], off))


def _undistillable(study: Study) -> Iterator[Want]:
    """A job a seed and teacher: the teacher, its students, its sweep; and the ablation."""
    resistant = open_undistillable(study)
    for part, found in (
        ("students", resistant.usual()),
        ("ablation", resistant.ablated()),
        ("sweep", resistant.swept()),
    ):
        for (subject, off), task in zip(found, resistant.tasks(found), strict=True):
            file = partial(resistant.measure, [subject], off)
            end = f"s{subject.seed}"
            normal = f"undistillable-teacher-{NORMAL}-{end}"
            teacher, taught = subject.teacher or "nobody", subject.stage == TEACHER
            if part == "students" and taught:
                yield Want(f"undistillable-teacher-{teacher}-{end}", task, (normal,), "teacher", file=file)
                continue
            where = end if part == "ablation" else f"{teacher}-{end}"
            after = normal, f"undistillable-teacher-{teacher}-{end}"
            yield Want(f"undistillable-{part}-{where}", task, after, "teacher" if taught else "thief", file=file)


# Notebook -> all that it asks of the store. A thing belongs to the first job that wants it.
WANTS: dict[str, Callable[[Study], Iterator[Want]]] = {
    "01_attack": _attack,
    "02_teacher": _teacher,
    "03_student": _student,
    "04_loss": _loss,
    "05_analysis": _analysis,
    "06_robustness": _robustness,
    "07_data_free": _data_free,
    "08_undistillable": _undistillable,
}
