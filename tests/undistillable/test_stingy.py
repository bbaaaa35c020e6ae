"""The sparsifier and the stingy teacher."""

import copy
import math

import pytest
import torch
from torch.nn.functional import softmax

from distill_lib.errors import UsageError
from distill_lib.undistillable.divergences import kl
from distill_lib.undistillable.stingy import FINITE, Stingy, top_logits
from distill_lib.vision.features import collect, extract
from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet, folded


@pytest.mark.parametrize("keep", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_so_many_are_kept_and_the_largest_among_them(keep, seed):
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(seed))
    sparse = top_logits(logits, keep)
    kept = sparse.isfinite()
    assert (kept.sum(1) == keep).all()
    assert torch.equal(sparse[kept], logits[kept])
    assert torch.equal(sparse.argmax(1), logits.argmax(1))
    others = logits.masked_fill(kept, -math.inf).amax(1)
    assert (logits.masked_fill(~kept, math.inf).amin(1) >= others).all()


def test_ties_keep_exactly_so_many_too():
    sparse = top_logits(torch.zeros(3, 6), 2)
    assert (sparse.isfinite().sum(1) == 2).all()
    assert (top_logits(torch.tensor([[1.0, 1.0, 0.0]]), 1).argmax(1) < 2).all()


@pytest.mark.parametrize("keep", [0, 11])
def test_an_impossible_number_is_named(keep):
    with pytest.raises(UsageError, match=f"{keep} of 10 logits cannot be kept; allowed: 1 to 10"):
        top_logits(torch.zeros(1, 10), keep)


@pytest.mark.parametrize("fill", [-math.inf, FINITE])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_from_it_is_finite_and_alike_for_both_fillings(fill, temperature):
    source = torch.Generator().manual_seed(0)
    taught, learned = (10 * torch.randn(8, 10, generator=source) for _ in range(2))
    learned.requires_grad_()
    value = kl(top_logits(taught, 2, fill), learned, temperature)
    value.backward()
    expected = kl(top_logits(taught, 2), learned, temperature)
    assert value.isfinite()
    assert value.item() == expected.item()
    assert learned.grad.isfinite().all()
    assert torch.equal(softmax(top_logits(taught, 2, fill) / temperature, 1) > 0, top_logits(taught, 2).isfinite())


def test_the_teacher_keeps_its_classes_and_its_features(normal, data):
    stingy = Stingy(normal, 2).eval()
    logits = extract(stingy, data[0])
    assert torch.equal(logits.argmax(1), extract(normal, data[0]).argmax(1))
    assert (logits.isfinite().sum(1) == 2).all()
    views = data[0][:4].float() / 255
    maps, expected = collect(stingy, views, normal.stages)[1], collect(normal, views, normal.stages)[1]
    assert stingy.stages == normal.stages
    assert all(torch.equal(maps[path], expected[path]) for path in normal.stages)
    with pytest.raises(AttributeError):
        _ = stingy.nothing_such


def test_a_copy_is_a_stingy_teacher_of_its_own(normal, data):
    stingy = Stingy(normal, 3).eval()
    copied = copy.deepcopy(stingy)
    views = data[0][:4].float() / 255
    assert torch.equal(copied(views), stingy(views))
    copied.network.head.bias.data.add_(1)
    assert not torch.equal(copied(views), stingy(views))


def test_a_wide_resnet_answers_in_two_halves_alike():
    """Which data-free methods ask for, of a frozen and folded copy."""
    network = build_wide_resnet(WideResNetConfig(10, 1, 4, stem_stride=4), 0).eval()
    stingy = Stingy(network, 2, FINITE).eval()
    views = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stingy.tail(stingy.trunk(views)), stingy(views))
    other = folded(stingy)
    assert torch.allclose(other.tail(other.trunk(views)), stingy(views), atol=1e-5)
    assert collect(other, views, ("block1",))[1]["block1"].shape[1] == 16
    assert network.head.weight.requires_grad
