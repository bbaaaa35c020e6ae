"""Entropy and peaks, by hand."""

import math

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.undistillable.peaks import describe, entropy, peaks
from distill_lib.undistillable.stingy import FINITE, top_logits

INF = math.inf


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(2.0), 0.0, 0.0, -INF], [200.0, 0.0, 0.0, 0.0]])
    half_quarter = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    assert entropy(logits).tolist() == pytest.approx([math.log(4), half_quarter, 0.0], abs=1e-6)
    assert entropy(4 * logits, 4.0).tolist() == pytest.approx(entropy(logits).tolist(), abs=1e-6)
    assert entropy(torch.tensor([[math.log(3.0), 0.0]])).item() == pytest.approx(math.log(4) - 0.75 * math.log(3))


@pytest.mark.parametrize(
    ("logits", "count"),
    [
        ([9.0, 0.0, 1.0, 0.0, 2.0], 1),  # the median is 1, half-way up is 5
        ([9.0, 6.0, 1.0, 0.0, 0.0], 2),
        ([9.0, 5.0, 1.0, 0.0, 0.0], 1),  # just half-way is not above
        ([9.0, 8.0, 7.0, 8.0, 0.0], 1),  # where most classes are high, none of them stands out: the median is 8
        ([3.0, 3.0, 3.0, 3.0, 3.0], 5),
        ([2.0, -INF, 1.0, -INF, -INF], 2),
    ],
)
def test_peaks_by_hand(logits, count):
    logits = torch.tensor([logits])
    assert peaks(logits).item() == count
    assert peaks(7 * logits - 3).item() == count  # neither scale nor shift


@pytest.mark.parametrize("fill", [-INF, FINITE])
@pytest.mark.parametrize("keep", [1, 2, 4])
def test_a_stingy_teachers_peaks_are_what_it_keeps(fill, keep):
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    assert (peaks(top_logits(logits, keep, fill)) == keep).all()


def test_the_means():
    found = describe(torch.tensor([[9.0, 6.0, 1.0, 0.0, 0.0], [0.0, 0.0, 9.0, 1.0, 2.0]]), temperature=1e4)
    assert found["entropy"] == pytest.approx(math.log(5), abs=1e-4)
    assert found["entropy_share"] == pytest.approx(1, abs=1e-4)
    assert found["peaks"] == 1.5
    assert found["several_peaks"] == 50


def test_wrong_input_is_named():
    with pytest.raises(UsageError, match="height 1 of a peak is impossible"):
        peaks(torch.zeros(1, 2), height=1)
    with pytest.raises(UsageError, match="no logits to describe"):
        describe(torch.zeros(0, 2))
