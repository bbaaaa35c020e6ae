"""MIMIC's weights: the estimate of mutual information on known cases, and shares that add up."""

import math

import pytest
import torch

from distill_lib.distillation.losses import Representation
from distill_lib.distillation.losses.mimic import entropy, gram, information, mimic_weights

STAGES = ("stage1", "stage2", "stage3", "stage4")


def slow_gram(values):
    """Pair by pair."""
    distances = [[math.dist(a, b) for b in values.tolist()] for a in values.tolist()]
    apart = sorted(d for i, row in enumerate(distances) for j, d in enumerate(row) if i != j and d > 0)
    width = apart[(len(apart) - 1) // 2]  # torch's median: the lower of the two in the middle
    return torch.tensor([[math.exp(-(d**2) / (2 * width**2)) / len(values) for d in row] for row in distances])


def draw(count, dimension, seed=0):
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gram_matrix_pair_by_pair():
    values = draw(7, 4)
    found = gram(values)
    torch.testing.assert_close(found, slow_gram(values).double(), atol=1e-6, rtol=1e-5)
    assert found.trace().item() == pytest.approx(1)
    torch.testing.assert_close(gram(100 * values), found)  # as wide as the data are


def test_entropy_in_closed_form():
    """All images alike: 0 bits; N images all apart: log2 N; k equal groups: log2 k."""
    assert entropy(torch.full((8, 8), 1 / 8)) == pytest.approx(0)
    assert entropy(torch.eye(8) / 8) == pytest.approx(3)
    assert entropy(torch.block_diag(*[torch.ones(2, 2)] * 4) / 8) == pytest.approx(2)


def kernel_of(labels):
    labels = torch.as_tensor(labels)
    return (labels[:, None] == labels[None]).double() / len(labels)


@pytest.mark.parametrize(
    ("first", "second", "bits"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),  # the same halves
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),  # crossed halves: independent
        ([0, 1, 2, 3], [0, 0, 1, 1], 1.0),  # one tells all of the other
        ([0, 1, 2, 3], [3, 2, 1, 0], 2.0),
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.0),  # a constant tells nothing
    ],
)
def test_information_between_groupings(monkeypatch, first, second, bits):
    """With a kernel that is 1 within a group and 0 between groups, Renyi's estimate is Shannon's."""
    monkeypatch.setattr("distill_lib.distillation.losses.mimic.gram", lambda values: kernel_of(values[:, 0].long()))
    assert information(*(torch.tensor(each)[:, None] for each in (first, second))) == pytest.approx(bits)


def test_information_is_symmetric_bounded_and_blind_to_scale():
    first, second = draw(40, 3), draw(40, 5, 1)
    found = information(first, second)
    assert found == pytest.approx(information(second, first))
    assert 0 <= found < math.log2(40)
    assert information(7 * first, second) == pytest.approx(found)


def test_a_dependent_pair_shares_more_than_an_independent_one():
    first, noise = draw(100, 3), draw(100, 3, 1)
    strengths = [information(first, weight * first + noise) for weight in (0.0, 1.0, 10.0)]
    assert strengths == sorted(strengths)
    assert strengths[2] > 1.2 * strengths[0]


def test_a_constant_shares_nothing():
    assert information(torch.ones(10, 4), draw(10, 3)) == pytest.approx(0, abs=1e-9)


def representation(maps, output):
    return Representation(output, {stage: each[:, :, None, None] for stage, each in zip(STAGES, maps, strict=True)})


def test_weights_are_1_plus_10_shares():
    output = draw(60, 4)
    maps = [draw(60, 4, 1), output + 3 * draw(60, 4, 2), output + draw(60, 4, 3), output]
    found = mimic_weights(representation(maps, output))
    assert sum(found) == pytest.approx(4 + 10)
    assert found == tuple(sorted(found))
    assert all(1 <= each <= 11 for each in found)
    bits = [information(each, output) for each in maps]
    assert found == pytest.approx([1 + 10 * each / sum(bits) for each in bits], rel=1e-5)


def test_one_stage_with_all_the_information_has_all_the_weight():
    output, nothing = draw(30, 4), torch.ones(30, 4)
    assert mimic_weights(representation([nothing, nothing, output, nothing], output)) == pytest.approx((1, 1, 11, 1))


def test_without_any_information_all_stages_weigh_the_same():
    nothing = torch.ones(10, 4)
    assert mimic_weights(representation([nothing] * 4, nothing)) == pytest.approx((3.5,) * 4)


def test_maps_are_averaged_over_places():
    output = draw(20, 4)
    maps = {stage: draw(20, 4, 7)[:, :, None, None] + torch.tensor([[-1.0, 1.0], [2.0, -2.0]]) for stage in STAGES}
    flat = {stage: draw(20, 4, 7)[:, :, None, None] for stage in STAGES}
    assert mimic_weights(Representation(output, maps)) == pytest.approx(mimic_weights(Representation(output, flat)))


def test_only_the_stages_asked_for():
    output = draw(20, 4)
    found = mimic_weights(representation([draw(20, 4, seed) for seed in range(4)], output), STAGES[2:])
    assert len(found) == 2
    assert sum(found) == pytest.approx(12)
