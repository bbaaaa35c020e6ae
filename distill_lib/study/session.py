"""What a notebook calls: the study opened on one profile, its cells, their rows, and the result file at the end."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas
from matplotlib.figure import Figure
from torch import Tensor

from distill_lib import plots
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.evaluation.probes import PROBES
from distill_lib.study import tables, words
from distill_lib.study.backdoors import BACKDOORS
from distill_lib.study.cells import DISTILLATION_COLUMNS, SWEEP_COLUMNS, Cell
from distill_lib.study.components import DEFENCES, STUDENTS, TEACHERS
from distill_lib.study.config.load import load_profile
from distill_lib.study.config.profile import Profile
from distill_lib.study.config.settings import Further
from distill_lib.study.cost import highest_rss_mb
from distill_lib.study.datafree.cells import DATAFREE_COLUMNS, DATAFREE_SWEEP_COLUMNS
from distill_lib.study.datafree.stale import checker as datafree_checker
from distill_lib.study.images import limited
from distill_lib.study.progress import Reporter
from distill_lib.study.stages import Stages
from distill_lib.study.stale import checker, known_facts, of_another_probe
from distill_lib.study.store import Artefact, Store, runs_folder, write_json, writing
from distill_lib.study.undistillable.cells import UNDISTILLABLE_COLUMNS, UNDISTILLABLE_SWEEP_COLUMNS
from distill_lib.study.undistillable.stale import checker as undistillable_checker
from distill_lib.study.workers import ALONE, Task, Workers, encoders, floor, how_many, measurement, target_class
from distill_lib.study.workshop import FRESH_STUDENT
from distill_lib.training.device import resolve_device
from distill_lib.vision.encoders import Encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger, placebo

TUNING_COLUMNS = ["loss", "weight", "seed", "acc", "asr", "n_test"]
PROGRESS = "DISTILL_PROGRESS"
COLUMNS = {
    "distillation": DISTILLATION_COLUMNS,
    "sweeps": SWEEP_COLUMNS,
    "datafree": DATAFREE_COLUMNS,
    "datafree_sweeps": DATAFREE_SWEEP_COLUMNS,
    "undistillable": UNDISTILLABLE_COLUMNS,
    "undistillable_sweeps": UNDISTILLABLE_SWEEP_COLUMNS,
}
SIBLINGS = {"datafree": datafree_checker, "undistillable": undistillable_checker}
CHECKERS = {name: SIBLINGS.get(name.removesuffix("_sweeps"), checker) for name in COLUMNS}


def open_study(
    profile: str,
    pretrain: str | None = None,
    attack: str | None = None,
    downstream: Sequence[str] = (),
    seeds: Sequence[int] = (),
    device: str = "auto",
    overrides: dict[str, Any] | None = None,
) -> "Study":
    """Open the study, as these arguments and the environment say.

    Environment variables: DISTILL_RUNS (the store, default `runs`), DISTILL_DATA (folder of image archives),
    DISTILL_CHECKPOINT_S (seconds between checkpoints), DISTILL_WORKERS (processes that compute at once), DISTILL_RESULT
    and DISTILL_PROGRESS (set by the runner).

    Args:
        profile: Name of a profile, or a TOML file.
        pretrain: Pre-training set in place of the profile's.
        attack: The only attack, in place of all of the profile's.
        downstream: Attacked sets in place of the profile's.
        seeds: Seeds in place of the profile's; which of them are compared and swept: `Profile.on`.
        device: `auto`, `cpu` or `cuda`; `auto` takes the profile's.
        overrides: Settings by dotted key. What they give is shown and not written to the result tables.

    Raises:
        UsageError: For any wrong value.
    """
    settings = load_profile(profile, overrides)
    settings = _only(settings, attack) if attack else settings
    changes = {"pretrain": pretrain, "downstream": tuple(downstream)}
    settings = on_seeds(replace(settings, **{name: value for name, value in changes.items() if value}), seeds)
    result, progress = (Path(os.environ[name]) if name in os.environ else None for name in ("DISTILL_RESULT", PROGRESS))
    stages = open_stages(settings, device)
    workers = Workers(how_many(os.environ.get("DISTILL_WORKERS"), stages.device), progress)
    workers.settle(stages.device)
    return Study(stages, repository(), result, bool(overrides), workers)


def on_seeds(settings: Profile, seeds: Sequence[int]) -> Profile:
    """The profile with its two sibling studies on other seeds; none: its own."""
    for name in SIBLINGS if seeds else ():
        own = getattr(settings, name)
        settings = replace(settings, **{name: own and own.on(tuple(seeds))})
    return settings.on(tuple(seeds) or settings.seeds)


def _only(settings: Profile, attack: str) -> Profile:
    """The profile with one attack alone, on the sets that the profile has for it."""
    choose("attack", attack, BACKDOORS)
    own = settings.further.get(attack, Further(settings.downstream, settings.compared))
    compared = own.compared or own.downstream[0]
    sweeps = tuple(sweep for sweep in settings.sweeps if (sweep.attack or settings.attack) == attack)
    seeds = dict(zip(("seeds", "compared_seeds"), settings.own_seeds(own), strict=True))
    changes = {"further": {}, "downstream": own.downstream, "compared": compared, "sweeps": sweeps, **seeds}
    return replace(settings, attack=attack, **changes)


def open_stages(
    settings: Profile, device: str = "auto", data_dir: Path | None = None, root: Path | None = None
) -> Stages:
    """The stages of a profile in the store of a repository (`root`, or where we are); `auto`: the profile's device."""
    data = data_dir or os.environ.get("DISTILL_DATA")
    runs = runs_folder(root or repository())
    progress = Path(os.environ.get(PROGRESS, runs / "progress.json"))
    where = resolve_device(settings.device if device == "auto" else device)
    stages = Stages(settings, Store(runs, Reporter(progress)), where, Path(data) if data else None)
    stages.checkpoint_s = float(os.environ.get("DISTILL_CHECKPOINT_S", stages.checkpoint_s))
    return stages


def rows_like(rows: pandas.DataFrame, cell: Cell) -> pandas.DataFrame:
    """Rows of the same cell at any seed; the target may be another at each, where the attack finds it."""
    names = [each.name for each in fields(Cell) if each.name not in ("target", "seed")]
    return rows[pandas.concat([rows[name] == getattr(cell, name) for name in names], axis=1).all(axis=1)]


def repository() -> Path:
    """The folder that holds `notebooks/`: the working directory or one above it."""
    here = Path.cwd()
    return next((each for each in (here, *here.parents) if (each / "notebooks").is_dir()), here)


class Study:
    """A profile with its store: gives encoders, rows and figures to a notebook.

    Attributes:
        stages: What makes the artefacts.
        profile: All settings.
        workers: What computes several cells at once.
        VERDICT_COLUMNS: What a notebook shows of the verdicts.
    """

    VERDICT_COLUMNS: ClassVar = [
        "claim", "attack", "downstream", "verdict", "comparison", "effect", "low", "high", "n", "p",
    ]  # fmt: skip

    def __init__(self, stages: Stages, root: Path, result: Path | None, trial: bool, workers: Workers = ALONE):
        self.stages, self.profile, self.root, self.workers = stages, stages.profile, root, workers
        self._result, self._trial = result, trial
        self._rows: dict[str, list[dict]] = {name: [] for name in COLUMNS}
        self._figures: list[str] = []
        self._checkers: dict[str, Callable[[dict[str, str]], bool]] = {}

    # ---- cells -------------------------------------------------------------------------------------------------

    def attacks(self) -> dict[str, Further]:
        """Every attack of this study, with the downstream sets and seeds it is measured on; the main one first."""
        profile, main = self.profile, Further(self.profile.downstream, self.profile.compared)
        seeds = {name: profile.own_seeds(sets) for name, sets in {profile.attack: main, **profile.further}.items()}
        return {
            name: replace(profile.further.get(name, main), seeds=own, compared_seeds=compared)
            for name, (own, compared) in seeds.items()
        }

    def clean(self, downstream: str, seed: int, attack: str | None = None) -> Cell:
        """The encoder before the attack, measured under the attack's trigger and target."""
        attack = attack or self.profile.attack
        target = self.under(attack).target(downstream, seed)
        return Cell(self.profile.pretrain, attack, downstream, target, "clean", "none", "", "", "", seed)

    def attacked(self, downstream: str, seed: int, attack: str | None = None) -> Cell:
        """The encoder with the backdoor."""
        return replace(self.clean(downstream, seed, attack), stage="attacked")

    def everywhere(self) -> list[Cell]:
        """The attacked encoder of each attack, downstream set and seed."""
        return self._attacked(self.places())

    def places(self) -> list[tuple[str, int, str]]:
        """Downstream set, seed and attack of each attacked encoder."""
        return [
            (name, seed, attack)
            for attack, sets in self.attacks().items()
            for name in sets.downstream
            for seed in sets.seeds
        ]

    def compared(self) -> list[Cell]:
        """The attacked encoders on which teachers, students, losses and defences are compared."""
        return self._attacked(
            (sets.compared, seed, attack)
            for attack, sets in self.attacks().items()
            if sets.compared
            for seed in sets.compared_seeds
        )

    def _attacked(self, places: Iterable[tuple[str, int, str]]) -> list[Cell]:
        """The attacked cells of downstream sets, seeds and attacks: a target that must be found takes the encoder."""
        places = list(places)
        tasks = [Task(self.under(attack).profile, target_class, (name, seed)) for name, seed, attack in places]
        self.workers.run(self.stages, tasks)
        return [self.attacked(*place) for place in places]

    def under(self, attack: str, settings: dict[str, Any] | None = None) -> Stages:
        """The stages of one attack, perhaps with other settings by dotted key."""
        profile = self.profile.varied(settings) if settings else self.profile
        return self.stages.under(replace(profile, attack=attack))

    def recipe(self, cells: Iterable[Cell], **changes: str) -> list[Cell]:
        """The recipe named beforehand (finetuned, warmup, at), or with one component changed, on each of the cells."""
        settings = self.profile.distillation
        parts = {"teacher": settings.teacher, "student": settings.student, "loss": settings.loss, **changes}
        choose("teacher", parts["teacher"], TEACHERS)
        choose("student", parts["student"], STUDENTS)
        return [cell.distilled(**parts) for cell in cells]

    def defence(self, cells: Iterable[Cell], name: str) -> list[Cell]:
        """A plain defence on each of the cells."""
        choose("defence", name, DEFENCES)
        return [cell.defended(name) for cell in cells]

    # ---- results -----------------------------------------------------------------------------------------------

    def prepare_attacks(self) -> None:
        """Make every encoder, before and after its attack, several at once.

        Worth a call before the first `everywhere`: naming a cell takes its target, and a target that is found with the
        attacked encoder would have this one made while other cores have nothing to do.
        """
        tasks = [Task(self.under(attack).profile, encoders, (name, seed)) for name, seed, attack in self.places()]
        self.workers.run(self.stages, tasks)

    def prepare(self, wanted: Iterable[tuple[Cell, dict[str, Any] | None]], on: str = "test") -> None:
        """Make what measuring these cells takes, several at once; `measure` finds it then.

        Worth a call of its own before several of `measure`, each of a cell or two.

        Args:
            wanted: Cells, each with other settings of the profile by dotted key, or None.
            on: `test` or `validation` images.
        """
        self.workers.run(self.stages, self.tasks(wanted, on))

    def tasks(self, wanted: Iterable[tuple[Cell, dict[str, Any] | None]], on: str = "test") -> list[Task]:
        """What `prepare` makes, a task a cell: to be made among other tasks."""
        return [Task(self.under(cell.attack, off).profile, measurement, (cell, on)) for cell, off in wanted]

    def measure(self, cells: Iterable[Cell], settings: dict[str, Any] | None = None, **named: Any) -> pandas.DataFrame:
        """Make what is missing and measure it; the rows, one a cell, by the profile's primary probe.

        The other probes' rows go to the sweeps, and so does every row of a measurement off the profile's defaults.

        Args:
            cells: What to measure.
            settings: Other settings of the profile, by dotted key: {"defender.share": 0.05}.
            named: What is off the defaults by another name.
        """
        rows, cells = [], list(cells)
        self.prepare([(cell, settings) for cell in cells])
        for cell in cells:
            cell, measured = self._measured(cell, settings)
            rows.append(self._rows_of(cell, measured, {**(settings or {}), **named}))
        return pandas.DataFrame(rows, columns=DISTILLATION_COLUMNS)

    def validated(self, cells: Iterable[Cell], settings: dict[str, Any] | None = None) -> pandas.DataFrame:
        """The same rows on validation images, to choose settings by; they go into no table."""
        rows, cells = [], list(cells)
        self.prepare([(cell, settings) for cell in cells], "validation")
        for cell in cells:
            cell, measured = self._measured(cell, settings, "validation")
            rates = measured.metrics[self.profile.evaluation.probe]
            rows.append({**cell.identity(), **rates, "key": measured.key})
        return pandas.DataFrame(rows, columns=DISTILLATION_COLUMNS)

    def _measured(self, cell: Cell, settings: dict[str, Any] | None = None, on: str = "test") -> tuple[Cell, Artefact]:
        """A cell, with the target that its attack has under the settings, and its measurement."""
        stages = self.under(cell.attack, settings)
        cell = stages.aimed(cell)
        return cell, stages.measured(cell, on=on)

    def random(self, cells: Iterable[Cell]) -> pandas.DataFrame:
        """The same rates with random weights in the encoder's place: what the head can do by itself."""
        rows, cells = [], list(cells)
        self.workers.run(self.stages, self.floors(cells))
        for cell in cells:
            rows.append(self._rows_of(cell, floor(self.under(cell.attack), cell), {"encoder": "random"}))
        return pandas.DataFrame(rows, columns=DISTILLATION_COLUMNS)

    def floors(self, cells: Iterable[Cell]) -> list[Task]:
        """What `random` makes, a task a cell."""
        return [Task(self.under(cell.attack).profile, floor, (cell,)) for cell in cells]

    def whole(self, cells: Iterable[Cell], settings: dict[str, Any] | None = None) -> pandas.DataFrame:
        """The rows of these cells at every seed measured so far, in the cells' order: a run in pieces is shown whole.

        Reported and exploration seeds are never mixed: those of the kind that this study runs on.

        Args:
            cells: Which encoders under which attack on which set; their seeds and targets do not count.
            settings: Other settings of the profile, by dotted key.
        """
        rows = self.table(settings)
        exploring = min(self.profile.seeds) >= EXPLORATION_SEEDS
        rows = rows[(rows["seed"] >= EXPLORATION_SEEDS) == exploring]
        places = dict.fromkeys(replace(cell, target=0, seed=0) for cell in cells)
        return pandas.concat([rows_like(rows, place) for place in places], ignore_index=True)

    def file(self, table: str, row: dict[str, Any]) -> None:
        """Keep a row for one of the result tables; `finish` writes it."""
        self._rows[table].append(row)

    def filed(self, table: str) -> pandas.DataFrame:
        """A result table so far: its fresh rows from earlier, as text, and this study's; with overrides these alone."""
        path, stale = self.root / "results" / self.profile.name / f"{table}.csv", self._stale(table)
        earlier = [] if self._trial else [row for row in tables.read(path) if not stale(row)]
        return pandas.DataFrame([*earlier, *self._rows[table]], columns=COLUMNS[table])

    def _rows_of(self, cell: Cell, measured: Artefact, setting: dict[str, Any]) -> dict[str, Any]:
        """File a measurement's rows, one a probe, and give the primary probe's."""
        primary, setting = self.profile.evaluation.probe, self.profile.off(setting)
        for probe in PROBES:
            row = {**cell.identity(), **measured.metrics[probe], "key": measured.key}
            off = {**setting, **({} if probe == primary else {"probe": probe})}
            if off:
                self._rows["sweeps"].append({"study": "distillation", **row, **tables.setting_columns(off)})
            else:
                self._rows["distillation"].append(row)
        return {**cell.identity(), **measured.metrics[primary], "key": measured.key}

    def table(self, settings: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Every row of this profile's table so far: those of earlier notebooks, and this one's.

        With settings overridden, this one's alone: the others are of other settings, as stale rows are.

        Args:
            settings: Other settings of the profile, by dotted key: the sweeps' rows that were measured at them.
        """
        off = self.profile.off(settings or {})
        study = "sweeps" if off else "distillation"
        frame = self.filed(study)
        for column, value in tables.setting_columns(off).items() if off else ():
            frame = frame[frame[column] == value]
        frame = frame[list(DISTILLATION_COLUMNS)]
        numbers = ["target", "seed", *DISTILLATION_COLUMNS[10:-1]]
        frame = frame.assign(**frame[numbers].apply(pandas.to_numeric))
        frame = frame.fillna(dict.fromkeys(("teacher", "student", "loss"), ""))
        identity = [name for name in DISTILLATION_COLUMNS[:10] if name != "target"]  # a seed has one
        return frame.drop_duplicates(identity, keep="last")

    @property
    def trigger(self) -> Trigger:
        """The main attack's trigger."""
        return self.stages.trigger()

    @property
    def placebo(self) -> Trigger:
        """Its control trigger."""
        return placebo(self.trigger)

    # ---- things to look at -------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What this study is made of, in three lines."""
        return words.summary(self.stages)

    def setup(self, attack: str = "") -> str:
        """How encoders are made, attacked (where an attack is named) and judged, in a line, beside another set-up."""
        return words.setup(self.stages, attack)

    def budget_table(self) -> pandas.DataFrame:
        """Augmented images that each part of each defence may use."""
        return words.budgets(self.profile.defender)

    def encoder(self, cell: Cell) -> Encoder:
        """The encoder of a cell, made if it is missing."""
        return self.stages.encoder(self.artefact(cell))

    def artefact(self, cell: Cell) -> Artefact:
        """The stored encoder of a cell: its log, settings and cost."""
        return self.under(cell.attack).encoder_of(cell)

    def teacher(self, cell: Cell, name: str) -> Encoder:
        """A teacher for an attacked cell."""
        return self.stages.encoder(choose("teacher", name, TEACHERS).make(self.under(cell.attack), cell))

    def student(self, cell: Cell, name: str) -> Encoder:
        """A student as it is before the distillation."""
        start = choose("student", name, STUDENTS).make(self.under(cell.attack), cell)
        return self.stages.encoder(start) if start else self.stages.fresh(cell.seed + FRESH_STUDENT)

    def sample(self, downstream: str, count: int = 1000) -> tuple[Tensor, Tensor]:
        """Test images (count, 3, H, W), uint8, of a downstream set and their labels: one fixed sample."""
        images = limited(self.stages.images(downstream, "test"), count)
        return images.images.cpu(), images.labels.cpu()

    def classes(self, downstream: str) -> tuple[str, ...]:
        """Class names of a downstream set."""
        return self.stages.images(downstream).classes

    def reference(self, cell: Cell) -> Tensor:
        """The reference inputs (R, 3, H, W), uint8, of an attacked cell."""
        rows = self.under(cell.attack).references(cell.downstream, cell.seed)
        return self.stages.training(cell.downstream).images[rows].cpu()

    def poisoned(self, attack: str, seed: int, count: int = 6) -> dict[str, Tensor]:
        """Some of the pre-training images that an attack poisons, before and after; empty where it poisons none."""
        stages = self.under(attack)
        if stages.backdoor.poison is None:
            return {}
        found, clean = stages.backdoor.poison(stages, seed), stages.pretraining.images
        rows = found.rows[:count].to(clean.device)
        return {"before": clean[rows].cpu(), "after": found.images[rows].cpu()}

    def tuning(self) -> pandas.DataFrame:
        """What the losses' weights were chosen from: exploration seeds, validation images; empty where none was run."""
        path = self.root / "results" / self.profile.name / "tuning.csv"
        return pandas.read_csv(path) if path.is_file() else pandas.DataFrame(columns=TUNING_COLUMNS)

    def view(self, cell: Cell, rows: dict[str, Any]) -> dict[str, Any]:
        """Features of sampled test images, clean and triggered, and of the reference: what a t-SNE panel needs."""
        images, labels = self.sample(cell.downstream)
        encoder = self.encoder(cell)
        trigger = self.under(cell.attack).trigger()
        shown = {"clean": images[rows["clean"]], "triggered": trigger(images[rows["triggered"]])}
        found = {name: extract(encoder, each).cpu().numpy() for name, each in shown.items()}
        reference = extract(encoder, self.reference(cell)).cpu().numpy()
        return {**found, "reference": reference, "labels": labels[rows["clean"]].tolist()}

    # ---- the end of a notebook ---------------------------------------------------------------------------------

    def figure(self, kind: str, numbers: dict[str, Any], name: str | None = None) -> Figure:
        """Draw a figure of this profile, save it as png, svg and json, and hand it back to be shown."""
        if self._trial:
            return plots.draw(kind, numbers)
        name, folder = name or kind, self.root / "figures" / self.profile.name
        self._figures += [f"figures/{self.profile.name}/{name}.{end}" for end in ("png", "svg", "json")]
        with writing(folder):
            return plots.make(kind, numbers, folder, name)

    def finish(self) -> str:
        """Merge the rows into the result tables and write the notebook's result file: the last cell's call."""
        if self._trial:
            self._write([])
            return "Settings were overridden: nothing was written to results/ or figures/."
        folder = self.root / "results" / self.profile.name
        runs, written = self.stages.store.root, []
        for study, rows in self._rows.items():
            if rows:
                tables.merge(folder / f"{study}.csv", rows, COLUMNS[study], runs, self._stale(study))
                written.append(f"results/{self.profile.name}/{study}.csv")
        self._write(written)
        return f"{sum(map(len, self._rows.values()))} rows in {' and '.join(written) or 'no table'}."

    def _stale(self, table: str) -> Callable[[dict[str, str]], bool]:
        """Tells rows that today's settings would not give; images that the manifest knows need not be loaded."""
        if table not in self._checkers:
            manifest = self.root / "results" / self.profile.name / "manifest.json"
            known = {**(known_facts(manifest) if manifest.is_file() else {}), **self.stages.known}
            where = self.stages.data_dir, self.stages.store.root
            check, rows = CHECKERS[table](self.profile, known, *where), tables.read(manifest.with_name("sweeps.csv"))
            self._checkers[table] = of_another_probe(rows, self.profile.evaluation.probe, check)
        return self._checkers[table]

    def _write(self, written: list[str]) -> None:
        if self._result:
            about = {"figures": self._figures, "tables": written, "peak_rss_mb": highest_rss_mb()}
            write_json(self._result, about)


__all__ = ["Profile", "Study", "UsageError", "open_study"]
