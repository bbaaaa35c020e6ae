"""How well a student copies its teacher, beside how well it classifies."""

from torch import Tensor

from distill_lib.errors import UsageError


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Images given their label, in percent.

    Args:
        logits: (N, classes).
        labels: int64 (N,).
    """
    _check(logits, labels)
    return _percent(logits.argmax(1) == labels)


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Images given the same class by both, right or wrong, in percent.

    Args:
        student: Logits (N, classes).
        teacher: Logits (N, classes).
    """
    _check(student, teacher)
    return _percent(student.argmax(1) == teacher.argmax(1))


def shared_errors(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """Of the images that the teacher gets wrong, those that the student gives the same wrong class, in percent.

    Two good networks agree because both are right; only a copy agrees on mistakes. NaN where the teacher makes none.

    Args:
        student: Logits (N, classes).
        teacher: Logits (N, classes).
        labels: int64 (N,).
    """
    _check(student, teacher)
    _check(student, labels)
    told = teacher.argmax(1)
    wrong = told != labels
    return _percent((student.argmax(1) == told)[wrong]) if wrong.any() else float("nan")


def _percent(hits: Tensor) -> float:
    return 100 * hits.double().mean().item()


def _check(first: Tensor, second: Tensor) -> None:
    if not len(first) or len(first) != len(second):
        raise UsageError(f"answers to {len(first)} and {len(second)} images cannot be compared; allowed: equally many")
