"""A profile: all settings of a run of the study, checked."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from distill_lib.attacks.ctrl import CTRLConfig
from distill_lib.attacks.poisoned_data import PoisonedDataConfig
from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.study.config.fill import as_table, at, hints, value_of, with_value
from distill_lib.study.config.settings import (
    Defender,
    Distillation,
    Evaluation,
    Further,
    Injection,
    Pretraining,
    at_least,
)
from distill_lib.study.config.sweep import Recipe, Sweep
from distill_lib.study.datafree.settings import DataFree
from distill_lib.study.undistillable.settings import Undistillable
from distill_lib.vision.encoders import PRECISIONS, EncoderConfig


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
        for name in ("seeds", "downstream", "losses"):
            if not getattr(self, name):
                raise UsageError(f"{name} is empty; allowed: one or more")
        # The other attacks find their target.
        needed = (*self.downstream, self.compared) if self.attack == "badencoder" else ()
        missing = [name for name in needed if name not in self.targets]
        if missing:
            raise UsageError(
                f"targets names no class for downstream set {missing[0]!r}; it has {', '.join(self.targets)}"
            )
        choose("precision", self.precision, dict.fromkeys(("auto", *PRECISIONS)))
        for name in self.losses:
            resolve(name)
        for part in ("pretraining", "injection", "defender"):
            at_least(f"{part}.optimisation.batch", getattr(self, part).optimisation.batch, 2)

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
        kinds, values = hints(Profile), {}
        for key, value in overrides.items():
            name, *path = key.split(".")
            choose("setting", name, kinds)
            values.setdefault(name, as_table(getattr(self, name)))  # the other tables stay: a table has many points
            values[name] = with_value(values[name], path, value) if path else value
        tables = {name: value_of(kinds[name], value, name) for name, value in values.items()}
        return dataclasses.replace(self, **{"sweeps": (), "recipes": (), **tables})

    def off(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Those of the settings, by dotted key, that differ from the profile's own."""
        return {key: value for key, value in settings.items() if at(self, key.split(".")) != _as_held(value)}


def _among(seeds: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(seed for seed in seeds if seed in others)


def _as_held(value: Any) -> Any:
    """A setting as a dataclass holds it: lists are tuples there."""
    return tuple(map(_as_held, value)) if isinstance(value, list) else value
