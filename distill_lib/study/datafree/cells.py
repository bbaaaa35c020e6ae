"""The cells of the data-free study: which network a row of its table is about."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

DATAFREE_COLUMNS = (
    "dataset", "attack", "target", "stage", "method", "defence", "seed",
    "n_test", "acc", "asr", "asr_all", "target_rate", "key",
)  # fmt: skip
DATAFREE_SWEEP_COLUMNS = (*DATAFREE_COLUMNS, "setting", "value")
TEACHER, STUDENT = "teacher", "student"


@dataclass(frozen=True)
class Subject:
    """A network under one attack: the identity of a row.

    Attributes:
        dataset: Labelled images of teacher and measurement.
        attack: The trigger's name.
        target: Target class.
        stage: `teacher` or `student`.
        method: Of distillation; empty for a teacher.
        defence: `none`, `sv`, `sr` or `abd`.
        seed: Seed of everything.
    """

    dataset: str
    attack: str
    target: int
    stage: str
    method: str
    defence: str
    seed: int

    def identity(self) -> dict[str, Any]:
        """The row's first columns."""
        return asdict(self)

    def distilled(self, method: str, defence: str = "none") -> "Subject":
        """A student of this teacher."""
        return replace(self, stage=STUDENT, method=method, defence=defence)


def subject_of(row: dict[str, str]) -> Subject:
    """The subject of a table's row (text)."""
    values = {each.name: row[each.name] for each in fields(Subject)}
    return Subject(**{**values, "target": int(values["target"]), "seed": int(values["seed"])})
