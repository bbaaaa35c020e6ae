"""Accuracy, agreement and shared errors, by hand."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from distill_lib.errors import UsageError
from distill_lib.undistillable.agreement import accuracy, agreement, shared_errors


def logits(*classes):
    return one_hot(torch.tensor(classes), 4).float()


LABELS = torch.tensor([0, 1, 2, 3, 0])
TEACHER, STUDENT = logits(0, 1, 2, 1, 2), logits(0, 2, 2, 1, 3)


def test_by_hand():
    assert accuracy(TEACHER, LABELS) == pytest.approx(60)
    assert accuracy(STUDENT, LABELS) == pytest.approx(40)
    assert agreement(STUDENT, TEACHER) == pytest.approx(60)  # images 0, 2 and, wrongly, 3
    assert shared_errors(STUDENT, TEACHER, LABELS) == pytest.approx(50)  # 3 of 3 and 4


def test_a_copy_agrees_and_a_perfect_teacher_makes_no_errors_to_share():
    assert agreement(TEACHER, TEACHER) == 100
    assert shared_errors(TEACHER, TEACHER, LABELS) == 100
    assert math.isnan(shared_errors(STUDENT, logits(0, 1, 2, 3, 0), LABELS))


def test_unequal_lengths_are_named():
    with pytest.raises(UsageError, match="answers to 5 and 4 images cannot be compared"):
        agreement(STUDENT, TEACHER[1:])
    with pytest.raises(UsageError, match="answers to 0 and 0 images"):
        accuracy(STUDENT[:0], LABELS[:0])
