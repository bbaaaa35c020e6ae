"""What the notebook on undistillable teachers calls: cells, rows, answers, the sweep of KD, AST's ablation."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas
import torch
from torch import Tensor

from distill_lib.errors import UsageError
from distill_lib.evaluation.cells import EXPLORATION_SEEDS, latest
from distill_lib.study import tables
from distill_lib.study.undistillable.cells import TEACHER, UNDISTILLABLE_COLUMNS, Subject
from distill_lib.study.undistillable.settings import ablation_settings
from distill_lib.study.undistillable.stages import NORMAL, UndistillableStages, judged
from distill_lib.study.workers import Task
from distill_lib.undistillable import THIEVES
from distill_lib.undistillable.agreement import agreement, shared_errors
from distill_lib.undistillable.pgd import AdversarialSet
from distill_lib.vision.features import collect, extract, to_unit

if TYPE_CHECKING:
    from distill_lib.study.session import Study

TABLE, SWEEPS = "undistillable", "undistillable_sweeps"
NUMBERS = ("seed", "n_test", "acc", "agreement")
KD, AST, ALONE = "kd", "ast", "alone"
KNOBS = ("alpha", "temperature")  # of KD; a row off their published values goes to the sweeps


def open_undistillable(study: "Study") -> "UndistillableStudy":
    """The undistillable teachers' part of an open study.

    Raises:
        UsageError: If the profile has none.
    """
    if study.profile.undistillable is None:
        raise UsageError(
            f"profile {study.profile.name!r} has no undistillable teachers; allowed: one with an [undistillable] table"
        )
    return UndistillableStudy(study)


class UndistillableStudy:
    """The undistillable teachers of a profile.

    Attributes:
        study: The open study: it files rows, draws figures and ends the notebook.
        settings: The profile's `[undistillable]` table.
        stages: What makes the artefacts.
    """

    def __init__(self, study: "Study"):
        self.study, self.settings = study, study.profile.undistillable
        self.stages = UndistillableStages(study.stages, self.settings)

    @property
    def exploring(self) -> bool:
        """Whether the study runs on exploration seeds, whose rows no table of reported ones holds."""
        return min(self.settings.seeds) >= EXPLORATION_SEEDS

    # ---- cells -------------------------------------------------------------------------------------------------

    def teachers(self, seeds: Iterable[int] = ()) -> list[Subject]:
        """Every teacher of each seed, the normal one first."""
        names = dict.fromkeys((NORMAL, *self.settings.teachers))
        return [
            Subject(self.settings.dataset, TEACHER, name, "", "", seed)
            for seed in seeds or self.settings.seeds
            for name in names
        ]

    def students(
        self, thieves: Sequence[str] = (), seeds: Iterable[int] = (), students: Sequence[str] = ()
    ) -> list[Subject]:
        """A student of every teacher by each thief; one that asks none is there once a seed.

        Args:
            thieves: By name; empty: those measured on every seed.
            seeds: Empty: all.
            students: Networks; empty: all.
        """
        found = [
            teacher.robbed(thief, student, THIEVES[thief].asks)
            for thief in thieves or self.settings.thieves
            for student in students or self.settings.students
            for teacher in self.teachers(seeds)
        ]
        return list(dict.fromkeys(found))

    def further(self) -> list[Subject]:
        """The other thieves, on the swept seeds with the first student."""
        if not self.settings.further:
            return []
        return self.students(self.settings.further, self.settings.swept, self.settings.students[:1])

    # ---- rows --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make all that the notebook shows, several networks at once, before section after section is looked at.

        First what all else waits for: the normal teachers. Then what waits for nobody: the students that ask none.
        """
        usual = self.usual()
        order = [each for each in usual if each[0].teacher == NORMAL and each[0].stage == TEACHER]
        order += [each for each in usual if not each[0].teacher] + [each for each in usual if each[0].stage == TEACHER]
        self._make([*order, *self.ablated(), *usual, *self.swept()])

    def usual(self) -> list[tuple[Subject, dict[str, Any]]]:
        """Every teacher and student at the profile's settings."""
        return [(each, {}) for each in (*self.teachers(), *self.students(), *self.further())]

    def _make(self, wanted: Iterable[tuple[Subject, dict[str, Any]]]) -> None:
        """Make what is missing of (network, settings off the profile's), each once."""
        tasks = []
        for task in self.tasks(wanted):
            tasks += [task] if task not in tasks else []
        self.study.workers.run(self.study.stages, tasks)

    def tasks(self, wanted: Iterable[tuple[Subject, dict[str, Any]]]) -> list[Task]:
        """What makes (network, settings off the profile's), a task a network."""
        return [Task(self.study.profile, judged, (self.stages.under(off).settings, each)) for each, off in wanted]

    def measure(self, subjects: Iterable[Subject], off: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Make what is missing and measure it: the rows, with measures that no table has, such as `shared_errors`.

        Args:
            subjects: What to measure.
            off: Settings by key of the `[undistillable]` table; rows off the defaults go to the sweeps.
        """
        stages, rows, subjects = self.stages.under(off or {}), [], list(subjects)
        self._make((subject, off or {}) for subject in subjects)
        for subject in subjects:
            stages.admit(subject.teacher, subject.seed)  # also where all was measured under a lower minimum
            found = stages.judged(subject)
            row = {**subject.identity(), **found.metrics, "key": found.key}
            rows.append(row)
            named = self._named(stages, subject, off or {})
            kept = {name: row[name] for name in UNDISTILLABLE_COLUMNS}
            self.study.file(SWEEPS if named else TABLE, {**kept, **(tables.setting_columns(named) if named else {})})
        return pandas.DataFrame(rows)

    def _named(self, stages: UndistillableStages, subject: Subject, off: dict[str, Any]) -> dict[str, Any]:
        """What is off the profile's settings, and for a thief that asks also what is off the published alpha and T."""
        named = {key: value for key, value in off.items() if value != _at(self.settings, key)}
        if subject.stage == TEACHER or not THIEVES[subject.thief].asks:
            return named
        for knob in KNOBS:
            value = getattr(stages.settings.thief, knob)
            named.pop(f"thief.{knob}", None)
            if value != getattr(stages.settings.published, knob):
                named[f"thief.{knob}"] = value
        return named

    def whole(self, table: str = TABLE) -> pandas.DataFrame:
        """Every row of the table so far, those of earlier runs' seeds among them.

        Reported and exploration seeds are never mixed: those of the kind that this study runs on.
        """
        return latest(self.study.filed(table), UNDISTILLABLE_COLUMNS[:6], NUMBERS, self.exploring)

    # ---- what is varied ------------------------------------------------------------------------------------------

    def sweep(self) -> pandas.DataFrame:
        """KD at every alpha and T of the profile, the published ones among them.

        Returns:
            The rows, with `alpha` and `temperature`.
        """
        subjects, parts = self.students([KD], self.settings.swept, self.settings.students[:1]), []
        for off in self._points():
            named = {knob: off[f"thief.{knob}"] for knob in KNOBS}
            parts.append(self.measure(subjects, off).assign(**named))
        return pandas.concat(parts, ignore_index=True)

    def _points(self) -> list[dict[str, float]]:
        """The settings of the sweep: alpha and T."""
        own = self.settings.published
        points = [(alpha, t) for alpha in self.settings.alphas for t in self.settings.temperatures]
        names = [f"thief.{knob}" for knob in KNOBS]
        return [dict(zip(names, each, strict=True)) for each in dict.fromkeys([(own.alpha, own.temperature), *points])]

    def swept(self) -> list[tuple[Subject, dict[str, Any]]]:
        """The networks of the sweep, each with its settings."""
        subjects = self.students([KD], self.settings.swept, self.settings.students[:1])
        return [(each, off) for off in self._points() for each in subjects]

    def ablation(self) -> pandas.DataFrame:
        """AST with one part switched at a time: teacher and KD student.

        Returns:
            A row a variant and seed: `variant`, the teacher's measures, and `student_acc`, `student_agreement`.
        """
        parts, student = [], self.settings.students[0]
        for variant, subjects, off in self._variants():
            taught = self.measure(subjects, off)
            robbed = self.measure([each.robbed(KD, student) for each in subjects], off)
            more = {"student_acc": robbed["acc"], "student_agreement": robbed["agreement"]}
            parts.append(taught.assign(variant=variant, **more))
        return pandas.concat(parts, ignore_index=True)

    def _variants(self) -> list[tuple[str, list[Subject], dict[str, Any]]]:
        """(name, its teachers, settings) of the ablation, the normal teacher's first."""
        teachers = [each for each in self.teachers(self.settings.swept) if each.teacher == NORMAL]
        found = [(NORMAL, teachers, {})]
        for row in self.settings.ablation:
            found.append((row, [each.of(AST) for each in teachers], ablation_settings(row, self.settings.ast)))
        return found

    def ablated(self) -> list[tuple[Subject, dict[str, Any]]]:
        """The networks of the ablation, each with its settings; teachers first."""
        variants, student = self._variants(), self.settings.students[0]
        taught = [(each, off) for _, teachers, off in variants for each in teachers]
        return taught + [(each.robbed(KD, student), off) for each, off in taught]

    # ---- things to look at ---------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What this study is made of, in two lines."""
        s = self.settings
        return (
            f"{s.teacher} on {s.dataset}, robbed by {', '.join(s.students)}; teachers {', '.join(s.teachers)}\n"
            f"seeds {list(s.seeds)}, sweep, ablation and further thieves on {list(s.swept)}; "
            f"{self.stages.stages.device}, {self.stages.stages.precision}"
        )

    def settings_table(self) -> pandas.DataFrame:
        """What decides each teacher, in words no longer than a table shows."""
        s, published = self.settings, self.settings.published
        words = {
            "nasty": f"omega {s.nasty.omega:g}, tau {s.nasty.temperature:g}",
            "stingy": f"{s.stingy.keep} logits told",
            "ast": f"alpha {s.ast.alpha:g}, T {s.ast.temperature:g}, {s.ast.keep or 'all'} logits, {s.ast.divergence}",
            "ast, targets": f"{s.ast.target}, {'paired' if s.ast.paired else 'not paired'}",
            "ast, PGD": f"{s.ast.pgd.space} space, radius {s.ast.pgd.epsilon:g}, "
            f"{s.ast.pgd.iterations} steps of {s.ast.pgd.step:g}",
            "kd": f"alpha {published.alpha:g}, T {published.temperature:g}",
        }
        return pandas.DataFrame({"settings": words})

    @torch.no_grad()
    def answers(self, seed: int, most: int = 200) -> dict[str, Any]:
        """What each teacher of a seed says of the same test images.

        Returns:
            `images` uint8 (N, 3, H, W), `labels` (N,), `classes`, and by teacher `logits` (N, classes) and `features`
            (N, D), those that the last layer sees.
        """
        held = self.stages.test_images(seed, most)
        found: dict[str, Any] = {"images": held.images.cpu(), "labels": held.labels.cpu(), "classes": held.classes}
        found |= {"logits": {}, "features": {}}
        for subject in self.teachers([seed]):
            model = self.stages.network(subject)
            network = getattr(model, "network", model)
            _, maps = collect(network, to_unit(held.images), ["pooled"])
            found["logits"][subject.teacher] = extract(model, held.images).cpu()
            found["features"][subject.teacher] = maps["pooled"].float().cpu()
        return found

    def adversarial(self, seed: int, count: int = 6) -> dict[str, Tensor]:
        """Some training images, uint8, and what AST looks at in their place, in [0, 1] where it can be shown."""
        clean, config = self.stages.images(seed).images[:count].cpu(), self.settings.config(AST)
        if not config.attacks_beforehand:
            return {"training images": clean}
        values = self.stages.adversarial(seed, config).weights()["values"][:count]
        shown = AdversarialSet(values, config.pgd.space).pixels(values.float() / 255)
        return {"training images": clean, "adversarial": shown.clamp(0, 1).mul(255).round().to(torch.uint8)}

    @torch.no_grad()
    def unasked(self) -> pandas.DataFrame:
        """How far a student that asked nobody agrees with each teacher: what a copy's agreement is to be held against.

        Returns:
            A row a network of students, teacher and seed: `agreement` and `shared_errors`, in percent.
        """
        rows = []
        for seed in self.settings.seeds:
            held, teachers = self.stages.test_images(seed), self.teachers([seed])
            taught = {each.teacher: extract(self.stages.network(each), held.images) for each in teachers}
            for student in self.settings.students:
                alone = teachers[0].robbed(ALONE, student, asks=False)
                own = extract(self.stages.network(alone), held.images)
                for teacher, told in taught.items():
                    found = {"agreement": agreement(own, told), "shared_errors": shared_errors(own, told, held.labels)}
                    rows.append({"student": student, "teacher": teacher, "seed": seed, **found})
        return pandas.DataFrame(rows)

    def nastiness(self) -> pandas.DataFrame:
        """How far each teacher of each seed lies from the normal one; a normal one of another seed is the measure."""
        rows = []
        for seed, other in zip(self.settings.seeds, (*self.settings.seeds[1:], self.settings.seeds[0]), strict=True):
            normal = self.stages.teacher(NORMAL, seed)
            found = {
                each.teacher: self.stages.nastiness(self.stages.network(each), normal, seed)
                for each in self.teachers([seed])
                if each.teacher in ("nasty", "ast")
            }
            if other != seed:
                found["another normal one"] = self.stages.nastiness(self.stages.teacher(NORMAL, other), normal, seed)
            rows.append({"seed": seed, **found})
        return pandas.DataFrame(rows).set_index("seed")


def _at(settings: Any, path: str) -> Any:
    """What lies under a dotted key."""
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings
