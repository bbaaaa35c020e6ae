"""The cells of the study: which encoder a row of the result table is about."""

from dataclasses import asdict, dataclass, replace
from typing import Any

DISTILLATION_COLUMNS = (
    "pretrain", "attack", "downstream", "target", "stage", "defence", "teacher", "student", "loss", "seed",
    "n_test", "acc", "asr", "asr_all", "triggered_acc", "placebo_asr", "target_rate", "trigger_cos", "key",
)  # fmt: skip
SWEEP_COLUMNS = ("study", *DISTILLATION_COLUMNS, "setting", "value")
# The words of a cell, which settings may use; components.py says how what they name is made.
TEACHER_NAMES = ("poisoned", "finetuned", "pruned", "scratch", "clean", "random")
STUDENT_NAMES = ("random", "warmup", "copy")
DEFENCE_NAMES = ("clean_share", "finetune", "bn_reset", "clp", "fine_pruning", "nad")


@dataclass(frozen=True)
class Cell:
    """One encoder under one attack on one downstream set: the identity of a row.

    Attributes:
        pretrain: Pre-training set.
        attack: Attack whose trigger and target the row is about.
        downstream: Downstream set.
        target: Target class.
        stage: `clean`, `attacked` or `defended`.
        defence: `none`, `distillation` or a plain defence.
        teacher: Of a distillation, else empty.
        student: Of a distillation, else empty.
        loss: Of a distillation, else empty.
        seed: Seed of everything.
    """

    pretrain: str
    attack: str
    downstream: str
    target: int
    stage: str
    defence: str
    teacher: str
    student: str
    loss: str
    seed: int

    def identity(self) -> dict[str, Any]:
        """The row's first columns."""
        return asdict(self)

    def defended(self, defence: str) -> "Cell":
        """The same under a plain defence."""
        return replace(self, stage="defended", defence=defence, teacher="", student="", loss="")

    def distilled(self, teacher: str, student: str, loss: str) -> "Cell":
        """The same after a distillation."""
        return replace(self, stage="defended", defence="distillation", teacher=teacher, student=student, loss=loss)

    def label(self) -> str:
        """A short name for people."""
        if self.stage != "defended":
            return self.stage
        return f"{self.teacher} / {self.student} / {self.loss}" if self.defence == "distillation" else self.defence
