"""Profiles: TOML files that fill frozen dataclasses, strictly."""

import dataclasses
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES
from distill_lib.vision.encoders import PRECISIONS

PROFILES = ("quick", "laptop", "gpu", "paper")


@dataclass(frozen=True)
class EncoderSettings:
    """Depth (10, 18, 34, 50), channels of the first stage, stride of the stem."""

    depth: int = 18
    width: int = 64
    stem_stride: int = 1


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
    """SimCLR from random weights: `epochs` over the pre-training set, two views of an image each."""

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
    """

    share: float = 0.05
    views: int = 1_000_000
    teacher: float = 0.3
    warmup: float = 0.3
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
    """The recipe, and the weight of each loss where it is not the registry's."""

    loss: str = "at"
    teacher: str = "finetuned"
    student: str = "warmup"
    nt_xent_weight: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)


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
        attack: Attack planted in the pre-trained encoder.
        downstream: Attacked downstream sets, each with its own backdoored encoder.
        compared: Downstream set on which teachers, students and losses are compared.
        targets: Target class of each downstream set.
        seeds: Reported seeds.
        compared_seeds: Those of them on which the components are compared.
        losses: Losses that are compared.
        precision: `float32`, `bf16`, or `auto`: bf16 where the processor multiplies it in hardware.
        device: Default device.
        minutes: Measured minutes of each notebook, for the job table.
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
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    pretraining: Pretraining = field(default_factory=Pretraining)
    injection: Injection = field(default_factory=Injection)
    defender: Defender = field(default_factory=Defender)
    distillation: Distillation = field(default_factory=Distillation)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        missing = [name for name in (*self.downstream, self.compared) if name not in self.targets]
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
        if not 0 < self.defender.share <= 1:
            raise UsageError(f"defender.share is {self.defender.share}; allowed: above 0, at most 1")
        if self.defender.teacher + self.defender.warmup >= 1:
            raise UsageError("defender.teacher + defender.warmup leave no views to distil; their sum must be below 1")


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
    return profile


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
    hints = typing.get_type_hints(kind)
    known = {each.name: hints[each.name] for each in dataclasses.fields(kind)}
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
    if origin is types.UnionType and any(_fits(each, value) for each in inner):
        return value
    if origin is None and _fits(kind, value):
        return float(value) if kind is float else value
    name = kind.__name__ if origin is None else str(kind)
    raise UsageError(f"setting {where!r} is {value!r} ({type(value).__name__}); allowed: {name}")


def _fits(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
