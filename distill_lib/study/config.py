"""Profiles: TOML files that fill frozen dataclasses, strictly."""

import dataclasses
import functools
import itertools
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from distill_lib.attacks.ctrl import CTRLConfig
from distill_lib.attacks.poisoned_data import PoisonedDataConfig
from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES
from distill_lib.study.components import DEFENCES, STUDENTS, TEACHERS
from distill_lib.study.datafree.settings import DataFree
from distill_lib.study.undistillable.settings import Undistillable
from distill_lib.vision.encoders import PRECISIONS, EncoderConfig
from distill_lib.vision.encoders import STAGES as ENCODER_STAGES

PROFILES = ("quick", "laptop", "gpu", "paper")


@dataclass(frozen=True)
class Optimisation:
    """How a training is optimised; its length is given in views."""

    batch: int = 128
    optimiser: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    decay: str = "constant"
    warmup: int = 0


@dataclass(frozen=True)
class Pretraining:
    """Self-supervised, from random weights: `epochs` over the pre-training set, two views of an image each."""

    algorithm: str = "simclr"  # or moco, byol
    epochs: int = 1000
    optimisation: Optimisation = field(default_factory=Optimisation)


@dataclass(frozen=True)
class Injection:
    """BadEncoder: passes over `shadow` images of the pre-training set (0: all of them)."""

    epochs: int = 200
    shadow: int = 0
    lambda1: float = 1.0
    lambda2: float = 1.0
    references: int = 1
    trigger_size: int = 10
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(batch=256, optimiser="sgd", weight_decay=5e-4)
    )


@dataclass(frozen=True)
class Defender:
    """What the defender holds and spends.

    Every defence gets `views` augmented images in all: a fine-tuned teacher and a warmed-up student are paid from it,
    and the distillation has what is left.

    Attributes:
        share: Clean images as a share of the pre-training set.
        source: Another image set that they come from; empty: the pre-training set.
        disjoint: Whether none of them is among the attacker's shadow images.
        contaminated: Share of them that carry the trigger without the defender's knowledge.
        views: Of each defence, in all.
        teacher: Share of the views that fine-tuning (pruning, training) a teacher costs.
        warmup: Share of the views that warming a student up costs.
        pruned: Share of the last stage's channels that fine-pruning removes.
        clp_u: Threshold of CLP in standard deviations.
        crop: Smallest share of an image's area that a view keeps.
        cutout: Largest side of the grey square in a view, as a share of the image's; 0: none.
        optimisation: Of every training of the defender's.
    """

    share: float = 0.05
    source: str = ""
    disjoint: bool = False
    contaminated: float = 0.0
    views: int = 1_000_000
    teacher: float = 0.3
    warmup: float = 0.3
    pruned: float = 0.2
    clp_u: float = 3.0
    crop: float = 0.2
    cutout: float = 0.0
    optimisation: Optimisation = field(default_factory=Optimisation)

    @property
    def teacher_views(self) -> int:
        """What fine-tuning a teacher costs."""
        return int(self.views * self.teacher)

    @property
    def warmup_views(self) -> int:
        """What warming a student up costs."""
        return int(self.views * self.warmup)


@dataclass(frozen=True)
class Distillation:
    """The recipe, and the weight of each loss where it is not the registry's.

    Attributes:
        loss: Of the recipe.
        teacher: Of the recipe.
        student: Of the recipe.
        nt_xent_weight: Of the student's own objective.
        mixup: Parameter of Beta(mixup, mixup); 0: off.
        steps: Of the distillation; 0: as many as the budget has left.
        cosine_weight: Of the feature cosine beside the loss; 0: the loss's own, which is mostly none.
        fresh_stages: Last stages of a student that start from random weights, 0 to 4.
        bn_reset: Whether the student's batch-norm statistics are estimated anew at the end.
        weights: By loss.
    """

    loss: str = "at"
    teacher: str = "finetuned"
    student: str = "warmup"
    nt_xent_weight: float = 1.0
    mixup: float = 0.0
    steps: int = 0
    cosine_weight: float = 0.0
    fresh_stages: int = 0
    bn_reset: bool = False
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Further:
    """Another attack of the same run.

    Attributes:
        downstream: Sets that it is measured on.
        compared: The one on which components are compared; empty: none.
        seeds: Its reported seeds; empty: the profile's.
        compared_seeds: Those on which components are compared; empty: the profile's, where they are its own.
    """

    downstream: tuple[str, ...]
    compared: str = ""
    seeds: tuple[int, ...] = ()
    compared_seeds: tuple[int, ...] = ()


RECIPE = "recipe"
STAGES = ("clean", "attacked")
SWEEP_FIGURES = ("robustness", "harm")
CELL_SETTINGS = ("distillation.teacher", "distillation.student", "distillation.loss")  # a cell's name says these
Scalar = bool | int | float | str
Setting = Scalar | list  # a list: a colour, say


@dataclass(frozen=True)
class Sweep:
    """Measurements along settings that vary, on the swept seeds and the set on which components are compared.

    An attack without such a set is measured on its first downstream set.

    Attributes:
        name: Of its panel in a figure; sweeps of one name share it.
        axis: What the first of the varied settings is called, with its unit.
        vary: Values by dotted key; every combination is a point. The first key is the axis, others tell lines apart.
        cells: What is measured at each point: `clean`, `attacked`, a plain defence, `recipe`, or any distillation as
            `teacher/student/loss`.
        fixed: Other settings of all points, by dotted key.
        attack: One of the profile's; empty: the main attack.
        figure: `robustness` or `harm`.
        panels: Varied keys that tell panels apart instead of lines.
        words: How a line is called, by cell or by "last part of the key, value".
    """

    name: str
    axis: str
    vary: dict[str, tuple[Scalar, ...]]
    cells: tuple[str, ...]
    fixed: dict[str, Setting] = field(default_factory=dict)
    attack: str = ""
    figure: str = "robustness"
    panels: tuple[str, ...] = ()
    words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        choose(f"figure of sweep {self.name!r}", self.figure, dict.fromkeys(SWEEP_FIGURES))
        if not self.vary or not self.cells or not all(self.vary.values()):
            raise UsageError(f"sweep {self.name!r} measures nothing; allowed: one or more values and cells")
        for key in (*self.vary, *self.fixed):
            if "." not in key or key in CELL_SETTINGS:
                raise UsageError(
                    f"sweep {self.name!r} cannot vary {key!r}; allowed: a dotted setting that no cell names"
                )
        for key in self.panels:
            choose(f"key of panels of sweep {self.name!r}", key, dict.fromkeys([*self.vary][1:]))
        for cell in self.cells:
            check_cell(cell, f"cell of sweep {self.name!r}", (*STAGES, RECIPE, *DEFENCES))

    def points(self) -> list[dict[str, Setting]]:
        """The settings of each point, in the order of the values; the last key varies fastest."""
        combined = itertools.product(*self.vary.values())
        return [{**self.fixed, **dict(zip(self.vary, values, strict=True))} for values in combined]


@dataclass(frozen=True)
class Recipe:
    """A defence of our own making: a cell, and settings off the defaults.

    Attributes:
        name: For people.
        cell: A plain defence, `recipe`, or a distillation as `teacher/student/loss`.
        settings: By dotted key.
    """

    name: str
    cell: str
    settings: dict[str, Setting] = field(default_factory=dict)

    def __post_init__(self):
        check_cell(self.cell, f"cell of recipe {self.name!r}", (RECIPE, *DEFENCES))


def check_cell(cell: str, what: str, plain: Iterable[str]) -> None:
    """UsageError unless `cell` is one of the plain words or a distillation as `teacher/student/loss`."""
    parts = cell.split("/")
    if len(parts) != 3:
        choose(what, cell, {**dict.fromkeys(plain), "teacher/student/loss": None})
        return
    choose("teacher", parts[0], TEACHERS)
    choose("student", parts[1], STUDENTS)
    resolve(parts[2])


@dataclass(frozen=True)
class Evaluation:
    """Classifiers on the frozen encoder; `train` and `test` limit the images used (0: all)."""

    probe: str = "head"
    train: int = 0
    test: int = 0
    head_epochs: int = 60
    head_batch: int = 128
    head_lr: float = 1e-3


@dataclass(frozen=True)
class Profile:
    """All settings of a run of the study.

    Attributes:
        name: Names the folders of results and figures.
        summary: A line for people.
        pretrain: Pre-training set.
        attack: The main attack.
        downstream: Downstream sets that it is measured on; BadEncoder makes an encoder for each.
        compared: Downstream set on which teachers, students and losses are compared.
        targets: Target class of each downstream set.
        seeds: Reported seeds.
        compared_seeds: Those of them on which the components are compared.
        swept_seeds: Those of them that the sweeps, the curve of harm among them, are measured on; empty: those on which
            the attack's components are compared.
        losses: Losses that are compared.
        further: Other attacks, by name.
        sweeps: What else is measured, along settings that vary.
        recipes: Defences of our own making, chosen on exploration seeds and validation images, then tested once.
        precision: `float32`, `bf16`, or `auto`: bf16 where the processor multiplies it in hardware.
        device: Default device.
        minutes: Measured minutes for the job table, by notebook, or by kind of thing that a job makes: `pretrain`,
            `attack`, `cell` (a row of the main table), a data-free method, `classifier`, `teacher` and `thief` of the
            sibling studies; `read`: a notebook that finds all that it asks for.
        datafree: The data-free study; None: this profile has none.
        undistillable: That of undistillable teachers; likewise.
    """

    name: str
    summary: str
    pretrain: str
    attack: str
    downstream: tuple[str, ...]
    compared: str
    targets: dict[str, int]
    seeds: tuple[int, ...]
    compared_seeds: tuple[int, ...]
    losses: tuple[str, ...]
    precision: str = "float32"
    device: str = "auto"
    minutes: dict[str, float] = field(default_factory=dict)
    further: dict[str, Further] = field(default_factory=dict)
    swept_seeds: tuple[int, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretraining: Pretraining = field(default_factory=Pretraining)
    injection: Injection = field(default_factory=Injection)
    poisoned_data: PoisonedDataConfig = field(default_factory=PoisonedDataConfig)
    ctrl: CTRLConfig = field(default_factory=CTRLConfig)
    defender: Defender = field(default_factory=Defender)
    distillation: Distillation = field(default_factory=Distillation)
    evaluation: Evaluation = field(default_factory=Evaluation)
    datafree: DataFree | None = None
    undistillable: Undistillable | None = None

    def __post_init__(self):
        chosen = (
            (*self.downstream, self.compared) if self.attack == "badencoder" else ()
        )  # the others find their target
        missing = [name for name in chosen if name not in self.targets]
        if missing:
            raise UsageError(
                f"targets names no class for downstream set {missing[0]!r}; it has {', '.join(self.targets)}"
            )
        choose("precision", self.precision, dict.fromkeys(("auto", *PRECISIONS)))
        choose("probe", self.evaluation.probe, PROBES)
        for name in (*self.losses, *self.distillation.weights, self.distillation.loss):
            resolve(name)
        _at_least("defender.views", self.defender.views, 1)
        _at_least("defender.teacher", self.defender.teacher, 0)
        _at_least("defender.warmup", self.defender.warmup, 0)
        for part in ("pretraining", "injection", "defender"):
            _at_least(f"{part}.optimisation.batch", getattr(self, part).optimisation.batch, 2)
        _at_least("distillation.cosine_weight", self.distillation.cosine_weight, 0)
        if not 0 <= self.distillation.fresh_stages <= len(ENCODER_STAGES):
            raise UsageError(
                f"distillation.fresh_stages is {self.distillation.fresh_stages}; allowed: 0 to {len(ENCODER_STAGES)}"
            )
        if not (0 < self.defender.crop <= 1 and 0 <= self.defender.cutout < 1):
            raise UsageError(
                f"defender.crop {self.defender.crop}, defender.cutout {self.defender.cutout} are impossible; "
                "allowed: crop above 0, at most 1; cutout 0 or more, below 1"
            )
        if not 0 < self.defender.share <= 1:
            raise UsageError(f"defender.share is {self.defender.share}; allowed: above 0, at most 1")
        if self.defender.teacher + self.defender.warmup >= 1:
            raise UsageError("defender.teacher + defender.warmup leave no views to distil; their sum must be below 1")
        if self.defender.disjoint and self.defender.source:
            raise UsageError(
                f"defender.disjoint and defender.source {self.defender.source!r} exclude each other, as the attacker's "
                "shadow images are of the pre-training set; allowed: one of them"
            )
        if not 0 <= self.defender.contaminated <= 1:
            raise UsageError(f"defender.contaminated is {self.defender.contaminated}; allowed: 0 to 1")

    def own_seeds(self, sets: Further) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seeds of one of the attacks, and those on which its components are compared."""
        if not sets.seeds:
            return self.seeds, sets.compared_seeds or self.compared_seeds
        return sets.seeds, sets.compared_seeds or _among(self.compared_seeds, sets.seeds) or sets.seeds[:1]

    def on(self, asked: tuple[int, ...]) -> "Profile":
        """The profile on other seeds: a piece of it, or seeds that it does not have.

        Seeds of the profile are used where the profile uses them: asked for 3 to 5, components are compared on those of
        them that it compares on, and an attack with seeds of its own runs on those of them that are its own. What has
        none of them stays at the profile's, which an earlier piece has made or this one makes, so that every piece has
        the comparisons of the whole and no others. Seeds that the profile does not have are measured for each attack;
        where there are no others, the first of them is compared and swept.
        """
        new = tuple(seed for seed in asked if seed not in self.seeds)
        first = new[:1] if len(new) == len(asked) else ()

        def few(own: tuple[int, ...]) -> tuple[int, ...]:
            return _among(asked, own) or first or own

        further = {}
        for name, sets in self.further.items():
            seeds, compared = self.own_seeds(sets)
            seeds = _among(asked, (*seeds, *new)) or seeds
            further[name] = dataclasses.replace(sets, seeds=seeds, compared_seeds=few(compared))
        compared = few(_among(self.compared_seeds, self.seeds) or self.seeds[:1])
        swept = self.swept_seeds and few(self.swept_seeds)
        return dataclasses.replace(self, seeds=asked, further=further, compared_seeds=compared, swept_seeds=swept)

    def varied(self, overrides: dict[str, Any]) -> "Profile":
        """The profile with other settings, by dotted key; a point of a sweep has no sweeps of its own.

        Raises:
            UsageError: As `load_profile`.
        """
        hints, values = _hints(Profile), {}
        for key, value in overrides.items():
            name, *path = key.split(".")
            choose("setting", name, hints)
            values.setdefault(name, _as_values(getattr(self, name)))  # the other tables stay: a table has many points
            values[name] = _with(values[name], path, value) if path else value
        tables = {name: _value(hints[name], value, name) for name, value in values.items()}
        return dataclasses.replace(self, **{"sweeps": (), "recipes": (), **tables})

    def off(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Those of the settings, by dotted key, that differ from the profile's own."""
        return {key: value for key, value in settings.items() if _at(self, key.split(".")) != _as_held(value)}


def _among(seeds: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(seed for seed in seeds if seed in others)


def _as_held(value: Any) -> Any:
    """A setting as a dataclass holds it: lists are tuples there."""
    return tuple(map(_as_held, value)) if isinstance(value, list) else value


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}; allowed: {least} or more")


def load_profile(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """Read a profile.

    Args:
        name: One of `PROFILES`, or the path of a TOML file.
        overrides: Values by dotted key, such as {"defender.share": 0.01}.

    Raises:
        UsageError: For an unknown profile, an unknown key, a wrong type or an impossible value.
    """
    path = Path(name)
    if name in PROFILES:
        text = resources.files(__package__).joinpath(f"profiles/{name}.toml").read_text(encoding="utf-8")
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise UsageError(f"unknown profile {name!r}; allowed: {', '.join(PROFILES)}, or a .toml file")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile {name!r} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        values = _with(values, key.split("."), value)
    profile = fill(Profile, values)
    if name not in PROFILES and (profile.name in PROFILES or not re.fullmatch(r"\w[\w-]*", profile.name)):
        raise UsageError(
            f"the profile in {name!r} is named {profile.name!r}, but its results need a folder of their own; "
            f"allowed: letters, digits, _ and -, and none of {', '.join(PROFILES)}"
        )
    for sweep in profile.sweeps:
        _check(profile, sweep)
    for recipe in profile.recipes:
        profile.varied(recipe.settings)
    return profile


def _check(profile: Profile, sweep: Sweep) -> None:
    """UsageError, with the sweep's name, if one of its points is no profile or its attack is not in this one."""
    choose(f"attack of sweep {sweep.name!r}", sweep.attack or profile.attack, {profile.attack: None, **profile.further})
    try:
        for point in sweep.points():
            profile.varied(point)
    except UsageError as error:
        raise UsageError(f"sweep {sweep.name!r}: {error}") from None


def _at(values: Any, path: list[str]) -> Any:
    """What lies under a dotted key; None where there is nothing."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else getattr(values, name, None)
    return values


def _as_values(value: Any) -> Any:
    """Tables as a profile's file has them."""
    if isinstance(value, dict):
        return {name: _as_values(each) for name, each in value.items()}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def _with(values: dict, path: list[str], value: Any) -> dict:
    inner = _with(values.get(path[0], {}), path[1:], value) if len(path) > 1 else value
    return {**values, path[0]: inner}


def fill(kind: type, values: Any, where: str = "") -> Any:
    """An instance of the dataclass `kind` from a dict; nested dataclasses from nested dicts.

    Raises:
        UsageError: Names the key, the value and what is allowed.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; allowed: a table of settings")
    known = _hints(kind)
    for key in values:
        choose("setting", f"{where}.{key}".lstrip("."), {f"{where}.{name}".lstrip("."): None for name in known})
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise UsageError(f"setting {f'{where}.{missing[0]}'.lstrip('.')!r} is missing; it has no default")
    return kind(**{key: _value(known[key], value, f"{where}.{key}".lstrip(".")) for key, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return fill(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(inner[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        return _one_of(inner, value, where)
    if origin is None and _fits(kind, value):
        return float(value) if kind is float else value
    name = kind.__name__ if origin is None else str(kind)
    raise UsageError(f"setting {where!r} is {value!r} ({type(value).__name__}); allowed: {name}")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value of one of several types: of tables and tuples there is one at most, the others are plain."""
    rich = [each for each in kinds if dataclasses.is_dataclass(each) or typing.get_origin(each)]
    if rich and isinstance(value, dict | list | tuple):
        return _value(rich[0], value, where)
    if any(_fits(each, value) for each in kinds if each not in rich):
        return value
    names = (getattr(each, "__name__", str(each)) for each in kinds)
    raise UsageError(f"setting {where!r} is {value!r} ({type(value).__name__}); allowed: {' or '.join(names)}")


def _fits(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
