"""Wide ResNets: published parameter counts, shapes, hook paths, the cut and the folded forward."""

import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.vision.features import collect
from distill_lib.vision.wide_resnet import BLOCKS, WIDE_RESNETS, WideResNetConfig, build_wide_resnet, folded

TINY = WideResNetConfig(10, 1, classes=4, base=4, stem_stride=2)


def images(count=4):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "count"), [("wrn16_1", 175_066), ("wrn16_2", 691_674), ("wrn40_2", 2_243_546)])
def test_parameter_counts_are_the_published_ones(name, count):
    model = build_wide_resnet(WIDE_RESNETS[name], 0)
    assert sum(each.numel() for each in model.parameters()) == count


def test_the_third_block_of_a_wrn16_has_five_convolutions():
    """Which are those that the Shuffling Vaccine shuffles."""
    model = build_wide_resnet(WideResNetConfig(16, 2), 0)
    assert len([m for m in model.block3.modules() if isinstance(m, nn.Conv2d)]) == 5


@pytest.mark.parametrize(("stride", "side"), [(1, 32), (2, 16), (4, 8)])
def test_logits_and_maps_have_their_shapes(stride, side):
    model = build_wide_resnet(WideResNetConfig(10, 2, classes=7, base=4, stem_stride=stride), 0).eval()
    logits, maps = collect(model, images(), BLOCKS)
    assert logits.shape == (4, 7)
    assert [tuple(maps[path].shape) for path in BLOCKS] == [
        (4, 8, side, side),
        (4, 16, side // 2, side // 2),
        (4, 32, side // 4, side // 4),
    ]
    assert model.dimension == 32


def test_the_forward_pass_by_hand(disturbed):
    """As arXiv 1605.07146 has it: batch norm and ReLU come first; a shortcut of another width starts from them."""
    model = disturbed(build_wide_resnet(TINY, 0)).eval()
    x = model.conv((images() - model.mean) / model.std)
    for name in BLOCKS:
        for block in getattr(model, name):
            first = torch.relu(block.bn1(x))
            second = block.conv2(torch.relu(block.bn2(block.conv1(first))))
            x = second + (x if block.shortcut is None else block.shortcut(first))
    expected = model.head(torch.relu(model.bn(x)).mean((2, 3)))
    assert torch.allclose(model(images()), expected, atol=1e-5)
    assert [getattr(model, name)[0].shortcut is None for name in BLOCKS] == [True, False, False]


def test_the_pass_may_be_cut_after_the_second_block(disturbed):
    model = disturbed(build_wide_resnet(TINY, 0)).eval()
    _, found = collect(model, images(), ("block2",))
    assert torch.equal(model.trunk(images()), found["block2"])
    assert torch.equal(model.tail(found["block2"]), model(images()))
    assert torch.equal(model.head(model.represent(found["block2"])), model(images()))


def test_normalisation_is_inside():
    model = build_wide_resnet(TINY, 0).eval()
    shifted = build_wide_resnet(TINY, 0).eval()
    shifted.mean.zero_()
    shifted.std.fill_(1.0)
    assert torch.allclose(model(images()), shifted((images() - model.mean) / model.std), atol=1e-5)


def test_folding_changes_nothing_but_the_cost():
    model = build_wide_resnet(TINY, 0)
    for _ in range(3):
        model(images(16))  # batch norms away from their start
    model.eval()
    frozen = folded(model)
    assert torch.allclose(frozen(images()), model(images()), atol=1e-5)
    assert not any(each.requires_grad for each in frozen.parameters())
    assert all(each.requires_grad for each in model.parameters())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in frozen.modules()) == 4


def test_the_seed_decides_and_the_global_generator_stays():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, again, other = (build_wide_resnet(TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.conv.weight, again.conv.weight)
    assert not torch.equal(first.conv.weight, other.conv.weight)


def test_bf16_gives_float32_logits_near_the_others():
    model, fast = build_wide_resnet(TINY, 0).eval(), build_wide_resnet(TINY, 0, "bf16").eval()
    logits = fast(images())
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, model(images()), atol=0.1)
    assert not torch.equal(logits, model(images()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 12}, "a WRN of depth 12 is impossible"),
        ({"widen": 0}, "widen 0"),
        ({"stem_stride": 3}, "stem_stride 3"),
        ({"classes": 1}, "classes 1"),
    ],
)
def test_impossible_sizes_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        WideResNetConfig(**settings)
