"""SP against the paper's similarity matrices written out."""

import math

import pytest
import torch

from distill_lib.distillation.losses.sp import sp


def similarities(maps):
    flat = [image.flatten().tolist() for image in maps]
    rows = [[sum(a * b for a, b in zip(one, two, strict=True)) for two in flat] for one in flat]
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows]


def slow(student, teacher, stage="stage4"):
    one, two = similarities(student.maps[stage]), similarities(teacher.maps[stage])
    count = len(one)
    return sum((one[i][j] - two[i][j]) ** 2 for i in range(count) for j in range(count)) / count**2


def test_equals_the_paper_written_out(pair):
    assert sp(*pair).item() == pytest.approx(slow(*pair), rel=1e-9)


def test_stages_are_summed(pair):
    expected = slow(*pair, "stage2") + slow(*pair, "stage3")
    assert sp(*pair, stages=("stage2", "stage3")).item() == pytest.approx(expected, rel=1e-9)


def test_rows_are_l2_normalised_and_the_sum_is_over_b_squared(at_stage):
    """Teacher: images at right angles, G = I. Student: one image twice, rows (1, 1) / sqrt 2 (L1: 1 / 2)."""
    teacher = at_stage([[[[1.0]], [[0.0]]], [[[0.0]], [[1.0]]]])
    student = at_stage([[[[1.0]], [[0.0]]], [[[1.0]], [[0.0]]]])
    near, off = (1 - math.sqrt(0.5)) ** 2, 0.5
    assert sp(student, teacher).item() == pytest.approx(2 * (near + off) / 4, rel=1e-9)


@pytest.mark.parametrize("count", [2, 4, 16, 64])
def test_at_most_four_over_b(at_stage, count):
    generator = torch.Generator().manual_seed(count)
    one, two = (torch.randn(count, 3, 2, 2, generator=generator) for _ in range(2))
    assert 0 < sp(at_stage(one), at_stage(two)).item() <= 4 / count
    opposed = torch.ones(count, 1, 1, 1)
    signs = torch.ones(count, 1, 1, 1)
    signs[::2] = -1  # half of the similarities change sign: half of the bound
    assert sp(at_stage(opposed), at_stage(opposed * signs)).item() == pytest.approx(2 / count)


def test_zero_when_equal_or_scaled(small, at_stage):
    maps = small[0].maps["stage4"]
    assert sp(small[0], small[0]).item() == 0
    assert sp(at_stage(5 * maps), at_stage(maps)).item() == pytest.approx(0, abs=1e-12)


def test_a_dead_image_has_a_finite_gradient(small, at_stage):
    maps = small[0].maps["stage4"].clone()
    maps[0] = 0
    student = at_stage(maps.requires_grad_())
    sp(student, at_stage(small[1].maps["stage4"])).backward()
    assert maps.grad.isfinite().all()


def test_contract(obeys_contract):
    obeys_contract(sp)
