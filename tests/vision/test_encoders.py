"""Encoders: size, shapes, seeds, precision, impossible settings."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from distill_lib.errors import UsageError
from distill_lib.vision.encoders import MEAN, STAGES, STD, BasicBlock, Bottleneck, EncoderConfig, build_encoder
from distill_lib.vision.features import collect

TINY = EncoderConfig(10, 4, 4)


def images(count=3, size=32, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("depth", "width", "parameters", "dimension"),
    [(10, 4, 19_572, 32), (10, 16, 307_536, 128), (18, 64, 11_168_832, 512), (50, 4, 95_012, 128)],
)
def test_size(depth, width, parameters, dimension):
    """Depth 10 at width 16 is the small encoder; depth 18 at width 64 is ResNet-18 without its last layer."""
    encoder = build_encoder(EncoderConfig(depth, width), 0)
    assert sum(each.numel() for each in encoder.parameters()) == parameters
    assert all(each.requires_grad for each in encoder.parameters())
    assert encoder.dimension == dimension


@pytest.mark.parametrize(("ours", "theirs"), [(BasicBlock, resnet.BasicBlock), (Bottleneck, resnet.Bottleneck)])
@pytest.mark.parametrize(("inputs", "stride"), [(16, 1), (16, 2), (8, 1)])
def test_a_block_is_torchvisions(ours, theirs, inputs, stride, disturbed):
    width = 16 // ours.expansion
    block, beside = disturbed(ours(inputs, width, stride)).eval(), None
    if stride > 1 or inputs != 16:
        beside = nn.Sequential(nn.Conv2d(inputs, 16, 1, stride, bias=False), nn.BatchNorm2d(16))
    other = theirs(inputs, width, stride, beside).eval()
    other.load_state_dict({name.replace("shortcut", "downsample"): value for name, value in block.state_dict().items()})
    x = torch.randn(2, inputs, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(block(x), other(x), atol=1e-5)


def test_defaults_are_the_papers():
    assert EncoderConfig() == EncoderConfig(depth=18, width=64, stem_stride=1)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
@pytest.mark.parametrize("depth", [10, 34, 50])
def test_shapes_of_stages_and_output(depth, stem_stride):
    encoder = build_encoder(EncoderConfig(depth, 4, stem_stride), 0)
    output, maps = collect(encoder, images())
    channels, size = encoder.dimension // 8, 32 // stem_stride
    expected = [(3, channels * 2**stage, size // 2**stage, size // 2**stage) for stage in range(4)]
    assert [tuple(maps[stage].shape) for stage in STAGES] == expected
    assert output.shape == (3, encoder.dimension)


def test_output_is_the_mean_of_the_last_map():
    output, maps = collect(build_encoder(TINY, 0), images())
    torch.testing.assert_close(output, maps["stage4"].mean((2, 3)))


def test_blocks_a_stage():
    encoder = build_encoder(EncoderConfig(34, 4), 0)
    assert [len(encoder.get_submodule(stage)) for stage in STAGES] == [3, 4, 6, 3]


def test_normalisation_is_inside():
    """An image of the mean colour is an image of zeros to the first convolution."""
    encoder = build_encoder(TINY, 0).eval()
    flat = torch.tensor(MEAN).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    assert encoder(flat).abs().max() < 1e-5
    seen = {}
    encoder.conv.register_forward_pre_hook(lambda _module, inputs: seen.update(x=inputs[0]))
    encoder(flat + torch.tensor(STD).view(1, 3, 1, 1))
    torch.testing.assert_close(seen["x"], torch.ones(2, 3, 32, 32), atol=1e-5, rtol=0)


def test_seeds_decide_the_weights():
    first, again, other = (build_encoder(TINY, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])
    assert not torch.equal(first["stage3.0.conv2.weight"], other["stage3.0.conv2.weight"])


def test_global_generators_are_left_as_they_were(monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()
    first = build_encoder(TINY, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded
    torch.rand(7)  # what others drew before is no part of the weights either
    assert torch.equal(build_encoder(TINY, 0).conv.weight, first.conv.weight)


def test_weights_are_he_normal_over_the_fan_out():
    weight = build_encoder(EncoderConfig(10, 32), 0).stage4[0].conv2.weight  # 256 x 256 x 3 x 3
    assert weight.mean().abs() < 2e-4
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_bf16_gives_float32_outputs_near_the_exact_ones():
    exact, fast = (build_encoder(TINY, 0, precision).eval() for precision in ("float32", "bf16"))
    assert all(torch.equal(a, b) for a, b in zip(exact.parameters(), fast.parameters(), strict=True))
    output, maps = collect(fast, images(8))
    assert output.dtype == torch.float32
    assert maps["stage2"].dtype == torch.bfloat16
    expected = exact(images(8))
    assert torch.cosine_similarity(output, expected).min() > 0.999
    assert not torch.equal(output, expected)


def test_float32_holds_under_someone_elses_autocast():
    encoder = build_encoder(TINY, 0).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(images()), encoder(images()).float())
        inside = encoder(images())
    assert torch.equal(inside, encoder(images()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 12}, "unknown encoder depth 12; allowed: 10, 18, 34, 50"),
        ({"width": 3}, "width is at least 4"),
        ({"stem_stride": 3}, "stem_stride 1, 2 or 4"),
        ({"stem_stride": 0}, "stem_stride 0 is impossible"),
    ],
)
def test_impossible_sizes_are_named(settings, words):
    with pytest.raises(UsageError, match=words):
        EncoderConfig(**settings)


def test_unknown_precision_is_named():
    with pytest.raises(UsageError, match="unknown precision 'half'; allowed: float32, bf16"):
        build_encoder(TINY, 0, "half")
