"""The cells of the study of undistillable teachers: which network a row of its table is about."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

UNDISTILLABLE_COLUMNS = (
    "dataset", "stage", "teacher", "student", "thief", "seed", "n_test", "acc", "agreement", "key",
)  # fmt: skip
UNDISTILLABLE_SWEEP_COLUMNS = (*UNDISTILLABLE_COLUMNS, "setting", "value")
TEACHER, STUDENT = "teacher", "student"


@dataclass(frozen=True)
class Subject:
    """A network: the identity of a row.

    Attributes:
        dataset: Labelled images of teachers, students and measurement.
        stage: `teacher` or `student`.
        teacher: `normal`, `nasty`, `stingy` or `ast`; empty for a student that asks none.
        student: Network of a student, by its name in `CLASSIFIERS`; empty for a teacher.
        thief: How the student was made; empty for a teacher.
        seed: Seed of everything.
    """

    dataset: str
    stage: str
    teacher: str
    student: str
    thief: str
    seed: int

    def identity(self) -> dict[str, Any]:
        """The row's first columns."""
        return asdict(self)

    def robbed(self, thief: str, student: str, asks: bool = True) -> "Subject":
        """A student of this teacher, or one that does not ask it."""
        return replace(self, stage=STUDENT, teacher=self.teacher if asks else "", student=student, thief=thief)

    def of(self, teacher: str) -> "Subject":
        """A teacher of the same images and seed."""
        return replace(self, stage=TEACHER, teacher=teacher, student="", thief="")


def subject_of(row: dict[str, str]) -> Subject:
    """The subject of a table's row (text)."""
    values = {each.name: row[each.name] for each in fields(Subject)}
    return Subject(**{**values, "seed": int(values["seed"])})
