"""What a profile measures off its own settings: sweeps, and recipes of our own making."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.study.cells import DEFENCE_NAMES, STUDENT_NAMES, TEACHER_NAMES

RECIPE = "recipe"
STAGES = ("clean", "attacked")
SWEEP_FIGURES = ("robustness", "harm")
CELL_SETTINGS = ("distillation.teacher", "distillation.student", "distillation.loss")  # a cell's name says these
PROBE = "evaluation.probe"
# Tables of a profile that what is measured in the first study can depend on.
TABLES = (
    "targets", "encoder", "pretraining", "injection", "poisoned_data", "ctrl", "defender", "distillation", "evaluation",
)  # fmt: skip
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
            if key.partition(".")[0] not in TABLES or "." not in key or key in (*CELL_SETTINGS, PROBE):
                raise UsageError(
                    f"sweep {self.name!r} cannot vary {key!r}; allowed: a dotted setting of {', '.join(TABLES)} that "
                    "no cell names, and not the probe, as every row is measured with all"
                )
        for key in self.panels:
            choose(f"key of panels of sweep {self.name!r}", key, dict.fromkeys([*self.vary][1:]))
        for cell in self.cells:
            check_cell(cell, f"cell of sweep {self.name!r}", (*STAGES, RECIPE, *DEFENCE_NAMES))

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
        check_cell(self.cell, f"cell of recipe {self.name!r}", (RECIPE, *DEFENCE_NAMES))


def check_cell(cell: str, what: str, plain: Iterable[str]) -> None:
    """UsageError unless `cell` is one of the plain words or a distillation as `teacher/student/loss`."""
    parts = cell.split("/")
    if len(parts) != 3:
        choose(what, cell, {**dict.fromkeys(plain), "teacher/student/loss": None})
        return
    choose("teacher", parts[0], dict.fromkeys(TEACHER_NAMES))
    choose("student", parts[1], dict.fromkeys(STUDENT_NAMES))
    resolve(parts[2])
