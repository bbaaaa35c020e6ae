"""FitNet against loops, and mean and sum by value."""

import pytest
import torch

from distill_lib.distillation.losses.fitnet import fitnet


def slow(student, teacher, stages):
    total = 0.0
    for stage in stages:
        one, two = student.maps[stage].flatten().tolist(), teacher.maps[stage].flatten().tolist()
        total += sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) / len(one)
    return total


@pytest.mark.parametrize("stages", [("stage1",), ("stage2", "stage4"), ("stage1", "stage2", "stage3", "stage4")])
def test_equals_the_formula_written_out(pair, stages):
    assert fitnet(*pair, stages=stages).item() == pytest.approx(slow(*pair, stages), rel=1e-9)


def test_mean_within_a_stage_and_sum_over_stages(at_stage):
    """Every element is off by 3: 9 a stage whatever its size, 36 over the four."""
    maps = torch.rand(2, 3, 4, 4)
    assert fitnet(at_stage(maps + 3), at_stage(maps)).item() == pytest.approx(36, rel=1e-6)


def test_zero_when_equal_and_symmetric(small):
    student, teacher = small
    assert fitnet(student, student).item() == 0
    assert fitnet(student, teacher).item() == pytest.approx(fitnet(teacher, student).item())


def test_contract(obeys_contract):
    obeys_contract(fitnet)
