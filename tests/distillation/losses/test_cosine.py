"""Feature cosine: written out, and at its three landmarks."""

import math

import pytest
import torch

from distill_lib.distillation.losses.cosine import cosine


def slow(student, teacher):
    total = 0.0
    for one, two in zip(student.output.tolist(), teacher.output.tolist(), strict=True):
        lengths = math.sqrt(sum(a * a for a in one)), math.sqrt(sum(b * b for b in two))
        total += 1 - sum(a * b for a, b in zip(one, two, strict=True)) / (lengths[0] * lengths[1])
    return total / len(student.output)


def test_equals_the_formula_written_out(pair):
    assert cosine(*pair).item() == pytest.approx(slow(*pair), rel=1e-9)


@pytest.mark.parametrize(
    ("output", "expected"),
    [([[2.0, 0.0]], 0.0), ([[0.0, 5.0]], 1.0), ([[-0.1, 0.0]], 2.0), ([[3.0, 4.0]], 0.4)],
)
def test_landmarks(at_output, output, expected):
    assert cosine(at_output(output), at_output([[1.0, 0.0]])).item() == pytest.approx(expected)


def test_mean_over_the_batch(at_output):
    student, teacher = at_output([[1.0, 0.0], [1.0, 0.0]]), at_output([[1.0, 0.0], [0.0, 1.0]])
    assert cosine(student, teacher).item() == pytest.approx(0.5)


def test_a_dead_output_has_a_finite_gradient(at_output):
    output = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    cosine(at_output(output), at_output(torch.ones(2, 3))).backward()
    assert output.grad.isfinite().all()
    assert output.grad.norm() < 1001  # 1 / GUARD, mean over the batch


def test_contract(obeys_contract):
    obeys_contract(cosine)
