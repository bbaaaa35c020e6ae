"""What the data-free notebook calls: cells, rows, curves, scores, the bridge."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas
import torch
from torch import Tensor

from distill_lib.attacks.label_triggers import LabelTrigger
from distill_lib.datafree import DEFENCES
from distill_lib.datafree.picture import dead_leaves, patches
from distill_lib.datafree.vaccine import Vaccine, VaccineConfig, auc
from distill_lib.errors import UsageError
from distill_lib.evaluation.cells import EXPLORATION_SEEDS, latest
from distill_lib.study.cells import Cell
from distill_lib.study.datafree.cells import DATAFREE_COLUMNS, TEACHER, Subject
from distill_lib.study.datafree.stages import DataFreeStages, rated
from distill_lib.study.images import PICTURE
from distill_lib.study.workers import Task
from distill_lib.vision.features import to_unit
from distill_lib.vision.wide_resnet import folded

if TYPE_CHECKING:
    from distill_lib.study.session import Study

TABLE, SWEEPS = "datafree", "datafree_sweeps"
PUBLISHED_CONVOLUTIONS = VaccineConfig().convolutions
NUMBERS = ("target", "seed", "n_test", "acc", "asr", "asr_all", "target_rate")


def open_datafree(study: "Study") -> "DataFreeStudy":
    """The data-free half of an open study.

    Raises:
        UsageError: If the profile has none.
    """
    if study.profile.datafree is None:
        raise UsageError(f"profile {study.profile.name!r} has no data-free study; allowed: one with a [datafree] table")
    return DataFreeStudy(study)


class DataFreeStudy:
    """The data-free study of a profile.

    Attributes:
        study: The open study: it files rows, draws figures and ends the notebook.
        settings: The profile's `[datafree]` table.
        stages: What makes the artefacts.
    """

    def __init__(self, study: "Study"):
        self.study, self.settings = study, study.profile.datafree
        self.stages = DataFreeStages(study.stages, self.settings)

    # ---- cells -------------------------------------------------------------------------------------------------

    def teachers(self, seeds: Iterable[int] = ()) -> list[Subject]:
        """The poisoned teacher of each attack and seed."""
        where = self.settings.dataset, self.settings.target
        return [
            Subject(where[0], attack, where[1], TEACHER, "", "none", seed)
            for attack in self.settings.triggers
            for seed in seeds or self.settings.seeds
        ]

    def students(self) -> list[Subject]:
        """A student by each method without a defence."""
        return [teacher.distilled(method) for method in self.settings.methods for teacher in self.teachers()]

    def defended(self) -> list[Subject]:
        """A student under each variant of the defence, `none` among them."""
        pairs = [(method, defence) for method in self.settings.defended for defence in self.settings.defences]
        return [teacher.distilled(*pair) for teacher in self.teachers() for pair in pairs]

    # ---- rows --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make all that the notebook shows, several networks at once, before section after section is looked at.

        The first study's encoder, which takes longest, comes first, and every teacher before the students.
        """
        encoder, *students = self.encoder_tasks()
        self.study.workers.run(self.study.stages, [encoder, *self.tasks(), *students])

    def tasks(self) -> list[Task]:
        """What `prepare` makes of teachers and their students, a task a network."""
        networks = [(each, "") for each in (*self.teachers(), *self.students(), *self.defended())]
        for _, method, images in self._places():
            networks += [(each.distilled(method), images) for each in self.teachers(self.settings.bridged)]
        return self._tasks(networks)

    def encoder_tasks(self) -> list[Task]:
        """What `prepare` makes of the first study's encoders, the attacked one first."""
        return self.study.tasks(self.encoder_cells())

    def encoder_cells(self) -> list[tuple[Cell, dict[str, Any] | None]]:
        """Those encoders as cells, each with other settings of the profile by dotted key, or None."""
        return [point[1:] for point in self._encoders()]

    def _tasks(self, wanted: Iterable[tuple[Subject, str]]) -> list[Task]:
        """A task a network, once: what is named twice would keep a second process waiting for the first."""
        return [Task(self.study.profile, rated, (self.settings, *each)) for each in dict.fromkeys(wanted)]

    def measure(self, subjects: Iterable[Subject], others: str = "") -> pandas.DataFrame:
        """Make what is missing and measure it: the rows, with `triggered_acc` and `placebo_asr`, which no table has.

        Args:
            subjects: What to measure.
            others: Image set in the place of a method's own; such rows go to the sweeps.
        """
        rows, subjects = [], list(subjects)
        self.study.workers.run(self.study.stages, self._tasks((subject, others) for subject in subjects))
        for subject in subjects:
            found = self.stages.rated(subject, others)
            row = {**subject.identity(), **found.metrics, "key": found.key}
            rows.append(row)
            kept = {name: row[name] for name in DATAFREE_COLUMNS}
            off = {"setting": "others", "value": others} if others else {}
            self.study.file(SWEEPS if others else TABLE, {**kept, **off})
        return pandas.DataFrame(rows)

    def vaccines(self, subjects: Iterable[Subject]) -> pandas.DataFrame:
        """Which students' vaccine was accepted: see `stages.vaccinated`. A row for each that asked for one.

        Where no test is made the first shuffling serves, and `vaccine` is `untested`.
        """
        asked = [each for each in subjects if DEFENCES[each.defence].sv is not None]
        untested = {} if self.settings.vaccine.acceptance else {"vaccine": "untested"}
        found = [(each, {**self.stages.student(each).metrics, **untested}) for each in asked]
        columns = ["attack", "method", "defence", "seed", "vaccine", "suspicious"]
        return pandas.DataFrame([{**each.identity(), **metrics} for each, metrics in found], columns=columns)

    def whole(self, table: str = TABLE) -> pandas.DataFrame:
        """Every row of the table so far, those of earlier runs' seeds among them.

        Reported and exploration seeds are never mixed: those of the kind that this study runs on.
        """
        exploring = min(self.settings.seeds) >= EXPLORATION_SEEDS
        return latest(self.study.filed(table), DATAFREE_COLUMNS[:7], NUMBERS, exploring)

    # ---- things to look at ---------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What this study is made of, in two lines."""
        settings = self.settings
        return (
            f"{settings.teacher} -> {settings.student} on {settings.dataset}, target {settings.target}, "
            f"{100 * settings.rate:g} % poisoned; triggers {', '.join(settings.triggers)}\n"
            f"seeds {list(settings.seeds)}, the bridge on {list(settings.bridged)}; "
            f"{self.stages.stages.device}, {self.stages.stages.precision}"
        )

    def setup(self) -> str:
        """How networks are made here, in a line, to stand beside another set-up: schedules in images, too."""
        s = self.settings
        own = {
            "zskt": _length(s.zskt.turns, "pseudo-batches", s.zskt.batch),
            "ood": _length(s.ood.schedule.steps, "steps", s.ood.schedule.batch) + (", mixed once" * s.ood.fixed),
            "clean_kd": _length(s.clean_kd.schedule.steps, "steps", s.clean_kd.schedule.batch),
            "cmi": _length(s.cmi.rounds, "rounds", s.cmi.images),
        }
        teacher = _length(s.training.schedule.steps, "steps", s.training.schedule.batch)
        used = [f"{method} {own[method]}" for method in dict.fromkeys((*s.methods, *s.defended, *s.bridge))]
        made = f"{s.dataset}; teacher {s.teacher}, {teacher}; student {s.student}; {', '.join(used)}"
        defence = {"vaccine": s.vaccine, "retrospection": s.retrospection}
        off = [f"{name} with {_off_defaults(each)}" for name, each in defence.items() if each != type(each)()]
        return "; ".join([made, *off])

    def sample(self, count: int = 6) -> tuple[Tensor, list[str]]:
        """Test images (count, 3, H, W), uint8, and the names of their classes."""
        images = self.stages.test_images(self.settings.seeds[0], count)
        return images.images.cpu(), [images.classes[label] for label in images.labels]

    def pictures(self, count: int = 8, seed: int = 0) -> dict[str, Tensor]:
        """The one picture (1, 3, H, W) and some of its patches (count, 3, h, w), uint8."""
        config, picture = self.settings.ood.patches, dead_leaves(self.settings.ood.patches.picture)
        return {"picture": picture[None], "patches": patches(replace(config, count=count), seed, picture)}

    def curves(self, subjects: Iterable[Subject]) -> pandas.DataFrame:
        """ACC and ASR over each student's training, on a sample of the test images."""
        parts = []
        for subject in subjects:
            curve = pandas.read_csv(self.stages.student(subject).folder / "curve.csv")
            parts.append(curve.assign(**subject.identity()))
        return pandas.concat(parts, ignore_index=True)

    def made(self, subject: Subject) -> dict[int, Tensor]:
        """Images that a method made, uint8 (N, 3, H, W), by the turn before which they were looked at."""
        artefact = self.stages.student(subject)
        turns = artefact.metrics["made"]
        return {turn: torch.load(artefact.folder / f"made-{turn:08d}.pt", weights_only=True) for turn in turns}

    @torch.no_grad()
    def scores(self, teacher: Subject, most: int = 1000) -> dict[str, Any]:
        """The vaccine's score, log10 KL(T || T~), of test images that are not of the target class.

        The vaccine is the first shuffling, whether the acceptance test would take it or not.

        Returns:
            `clean` and `triggered`, (N,) each, `auc`, and `auc_usual` with as many shuffled convolutions as published.
        """
        held = self.stages.test_images(teacher.seed, most)
        images = held.images[held.labels != self.settings.target]
        model = folded(self.stages.network(self.stages.classifier(teacher.attack, teacher.seed), TEACHER))
        looks = {"clean": images, "triggered": LabelTrigger(teacher.attack)(images)}
        own = replace(self.settings.vaccine, acceptance=False)
        found = []
        for config in (own, replace(own, convolutions=PUBLISHED_CONVOLUTIONS)):
            vaccine = Vaccine(model, config, teacher.seed)
            vaccine.decide(lambda: None)
            found.append({name: vaccine.scores(to_unit(each)).cpu() for name, each in looks.items()})
        areas = (auc(each["clean"], each["triggered"]) for each in found)
        return {**found[0], **dict(zip(("auc", "auc_usual"), areas, strict=True))}

    # ---- the bridge ------------------------------------------------------------------------------------------------

    def bridge(self) -> pandas.DataFrame:
        """One poisoned teacher, students from clean data over other people's data and one picture to a generator.

        Returns:
            The rows, with `place` (on the axis, from 0) and `data` (its name).
        """
        parts, teachers = [], self.teachers(self.settings.bridged)
        for place, (data, method, images) in enumerate(self._places()):
            rows = self.measure([teacher.distilled(method) for teacher in teachers], images)
            parts.append(rows.assign(place=place, data=data))
        return pandas.concat(parts, ignore_index=True)

    def _places(self) -> list[tuple[str, str, str]]:
        """Along that axis: the name of the data, the method, the image set in the place of the method's own."""
        others = self.settings.others
        places = [("clean data", "clean_kd", ""), (f"other people's data ({others})", "ood", others)]
        return places + [(WORDS[method], method, "") for method in self.settings.bridge]

    def encoder_bridge(self) -> pandas.DataFrame:
        """The same for the first study's poisoned encoder: a student learns the cosine of its features.

        The defender's images come from the pre-training set, from the other people's set, or from the one picture; as
        many images and views at each point. The rows go to the first study's sweeps.

        Returns:
            Rows of the first study's table, the attacked encoder's first, with `place` and `data`.
        """
        parts = []
        for place, (data, cell, settings) in enumerate(self._encoders(), start=-1):
            parts.append(self.study.measure([cell], settings).assign(place=place, data=data))
        return pandas.concat(parts, ignore_index=True)

    def _encoders(self) -> list[tuple[str, Cell, dict[str, Any] | None]]:
        """The encoders of that bridge, the attacked one first: the name of the data, the cell, its settings."""
        base = self.study.attacked(self._judged_on(), self.settings.bridged[0])
        student = base.distilled("poisoned", "random", "cosine")
        sources = {"clean data": "", f"other people's data ({self.settings.others})": self.settings.others}
        # The student has no objective of its own.
        alone = {"distillation.nt_xent_weight": 0.0, "distillation.steps": self.settings.encoder_steps}
        points = [
            (data, student, {"defender.source": source, **alone})
            for data, source in {**sources, "one picture": PICTURE}.items()
        ]
        return [("attacked encoder", base, None), *points]

    def _judged_on(self) -> str:
        """The attacked set of the encoder's bridge: never that of the other people, which would then be the nearest."""
        profile = self.study.profile
        sets = (profile.compared, *profile.downstream)
        return next((each for each in sets if each != self.settings.others), profile.compared)


def _length(count: int, what: str, batch: int) -> str:
    """`5,000 steps of 128, 0.64 million images`: what is compared where batches differ."""
    return f"{count:,} {what} of {batch}, {count * batch / 1e6:.3g} million images"


def _off_defaults(config: Any) -> str:
    """`weight 0.05, start 0`: what a configuration has set off its defaults, which are the published settings."""
    usual = vars(type(config)())
    return ", ".join(f"{name} {value}" for name, value in vars(config).items() if value != usual[name])


WORDS = {"ood": "one picture", "zskt": "a generator (ZSKT)", "cmi": "a generator (CMI)", "clean_kd": "clean data"}
