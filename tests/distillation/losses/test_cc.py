"""CC: the paper's correlation matrices, and the release's products of neighbours, written out."""

import math

import pytest
import torch

from distill_lib.distillation.losses.cc import cc, cc_released


def correlation(one, two, gamma, order):
    lengths = math.sqrt(sum(a * a for a in one)), math.sqrt(sum(b * b for b in two))
    cosine = sum(a * b for a, b in zip(one, two, strict=True)) / (lengths[0] * lengths[1])
    series = sum((2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1))
    return math.exp(-2 * gamma) * series


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.4, 1), (1.0, 3)])
def test_equals_the_paper_written_out(pair, gamma, order):
    student, teacher = (each.output.tolist() for each in pair)
    count = len(student)
    expected = 0.0
    for i in range(count):
        for j in range(count):
            learned = correlation(student[i], student[j], gamma, order)
            expected += (learned - correlation(teacher[i], teacher[j], gamma, order)) ** 2
    assert cc(*pair, gamma=gamma, order=order).item() == pytest.approx(expected / count**2, rel=1e-9)


def test_the_series_tends_to_the_gaussian_rbf(at_output):
    """Right angles against one embedding twice: |x - y|^2 is 2 against 0."""
    apart, alike = at_output([[1.0, 0.0], [0.0, 2.0]]), at_output([[1.0, 0.0], [3.0, 0.0]])
    gap = 1 - math.exp(-0.4 * 2)
    assert cc(alike, apart, order=20).item() == pytest.approx(2 * gap**2 / 4, rel=1e-9)


def test_mse_at_second_order_by_value(at_output):
    """Cosines 1 against 0 off the diagonal: (2 gamma + 2 gamma^2) exp(-2 gamma) on two pairs of four."""
    apart, alike = at_output([[1.0, 0.0], [0.0, 2.0]]), at_output([[1.0, 0.0], [3.0, 0.0]])
    gap = math.exp(-0.8) * (0.8 + 0.32)
    assert cc(alike, apart).item() == pytest.approx(gap**2 / 2, rel=1e-9)


def test_zero_when_equal_scaled_or_rotated(small, at_output):
    output = small[0].output
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert cc(small[0], small[0]).item() == 0
    assert cc(at_output(output @ rotation * 7), at_output(output)).item() == pytest.approx(0, abs=1e-12)


def released(student, teacher, stage):
    one, two = student.maps[stage], teacher.maps[stage]
    count, channels, height, width = one.shape
    total = 0.0
    for b in range(count - 1):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    here = abs(one[b, c, y, x].item() - two[b, c, y, x].item())
                    total += here * abs(one[b + 1, c, y, x].item() - two[b + 1, c, y, x].item())
    return total / ((count - 1) * height * width)


def test_released_equals_its_loops(pair):
    expected = sum(released(*pair, stage) for stage in pair[0].maps)
    assert cc_released(*pair).item() == pytest.approx(expected, rel=1e-9)


def test_released_sums_channels_and_averages_the_rest(at_stage):
    """Errors of 2 everywhere: 4 a channel, 3 channels, four stages."""
    maps = torch.rand(5, 3, 2, 4)
    assert cc_released(at_stage(maps + 2), at_stage(maps)).item() == pytest.approx(4 * 3 * 4, rel=1e-6)


def test_released_does_not_see_an_error_without_a_neighbour(at_stage):
    """Its fault: a student wrong on every second image only is perfect to it."""
    maps = torch.rand(4, 3, 2, 2)
    wrong = maps.clone()
    wrong[::2] += 1
    assert cc_released(at_stage(wrong), at_stage(maps)).item() == 0


def test_released_needs_two_images(at_stage):
    alone = at_stage(torch.ones(1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"need 2 images; the maps are \(1, 2, 2, 2\)"):
        cc_released(alone, alone)


@pytest.mark.parametrize("loss", [cc, cc_released])
def test_contract(obeys_contract, loss):
    obeys_contract(loss)
