"""AT against the attention maps written out, with its means and sums by value."""

import math

import pytest
import torch

from distill_lib.distillation.losses.at import at, attention


def slow_attention(image):
    channels, height, width = image.shape
    values = [
        sum(abs(image[c, y, x].item()) ** 2 for c in range(channels)) for y in range(height) for x in range(width)
    ]
    length = math.sqrt(sum(value**2 for value in values))
    return [value / length for value in values]


def slow(student, teacher, stage):
    total, count = 0.0, 0
    for one, two in zip(student.maps[stage], teacher.maps[stage], strict=True):
        for a, b in zip(slow_attention(one), slow_attention(two), strict=True):
            total, count = total + (a - b) ** 2, count + 1
    return total / count


def test_equals_the_paper_written_out(pair):
    assert at(*pair).item() == pytest.approx(sum(slow(*pair, stage) for stage in pair[0].maps), rel=1e-9)
    assert at(*pair, stages=("stage3",)).item() == pytest.approx(slow(*pair, "stage3"), rel=1e-9)


def test_attention_is_a_unit_vector_per_image(small):
    found = attention(small[0].maps["stage2"])
    assert found.shape == (3, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_mean_over_positions_and_sum_over_stages(at_stage):
    """One of two positions against the other: (1 + 1) / 2 a stage, 4 in all (sums would give 8)."""
    left, right = at_stage([[[[3.0, 0.0]]]]), at_stage([[[[0.0, 0.5]]]])
    assert at(left, right).item() == pytest.approx(4)


def test_square_sum_over_channels_by_value(at_stage):
    """A = (3^2 + 4^2, 0^2 + 5^2) = (25, 25) against (1, 0): sums of |F| would give (7, 5)."""
    student, teacher = at_stage([[[[3.0, 0.0]], [[-4.0, 5.0]]]]), at_stage([[[[1.0, 0.0]], [[0.0, 0.0]]]])
    half = math.sqrt(0.5)
    assert at(student, teacher, stages=("stage1",)).item() == pytest.approx(((1 - half) ** 2 + half**2) / 2)


def test_blind_to_scale_sign_and_order_of_channels(small, at_stage):
    maps = small[0].maps["stage1"]
    changed = -3 * maps.flip(1)
    assert at(at_stage(changed), at_stage(maps)).item() == pytest.approx(0, abs=1e-12)
    assert at(small[0], small[0]).item() == 0


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-4, 1e-2])
def test_a_dead_map_has_a_bounded_gradient(at_stage, scale):
    maps = (scale * torch.rand(2, 3, 2, 2)).requires_grad_()
    at(at_stage(maps), at_stage(torch.rand(2, 3, 2, 2))).backward()
    assert maps.grad.isfinite().all()
    assert maps.grad.norm() < 200


def test_contract(obeys_contract):
    obeys_contract(at)
