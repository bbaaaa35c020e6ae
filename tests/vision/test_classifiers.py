"""Classifiers: published parameter counts, shapes, hook paths, and what every one of them promises."""

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from distill_lib.errors import UsageError
from distill_lib.vision.classifiers import CLASSIFIERS, ClassifierConfig, build_classifier
from distill_lib.vision.features import collect

SMALL = [name for name in CLASSIFIERS if name.endswith("_small")]


def images(count=2, side=32):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_173_962),
        ("resnet50", 23_520_842),
        # torchvision's ImageNet counts, 2,278,604 and 3,504,872, less the 1,000 classes' layer, plus ten classes'
        ("shufflenetv2", 2_278_604 - 1025 * 1000 + 1025 * 10),
        ("mobilenetv2", 3_504_872 - 1281 * 1000 + 1281 * 10),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    assert count(build_classifier(CLASSIFIERS[name], 0)) == parameters


@pytest.mark.parametrize(("name", "blocks"), [("preresnet20", 3), ("preresnet32", 5)])
def test_parameters_of_a_preresnet_by_hand(name, blocks):
    """Convolutions without bias, 2 numbers a channel in a batch norm, bare 1 x 1 shortcuts: .27 and .47 million."""
    expected, inputs = 3 * 16 * 9, 16
    for width in (16, 32, 64):
        for block in range(blocks):
            expected += 9 * inputs * width + 9 * width * width + 2 * inputs + 2 * width
            expected += inputs * width if not block and inputs != width else 0
            inputs = width
    assert count(build_classifier(CLASSIFIERS[name], 0)) == expected + 2 * 64 + 65 * 10


def test_parameters_of_the_cnn_by_hand():
    convolutions = sum(9 * a * b + b + 2 * b for a, b in ((3, 32), (32, 64), (64, 128)))
    assert count(build_classifier(CLASSIFIERS["cnn"], 0)) == convolutions + (2048 + 1) * 128 + 2 * 128 + 129 * 10


@pytest.mark.parametrize(
    ("name", "sides", "channels"),
    [
        ("resnet18", (32, 16, 8, 4), (64, 128, 256, 512)),
        ("resnet50", (32, 16, 8, 4), (256, 512, 1024, 2048)),
        ("preresnet20", (32, 16, 8), (16, 32, 64)),
        ("preresnet32", (32, 16, 8), (16, 32, 64)),
        ("cnn", (16, 8, 4), (32, 64, 128)),
        ("shufflenetv2", (16, 8, 4), (116, 232, 464)),
        ("mobilenetv2", (16, 8, 4, 4), (24, 32, 96, 320)),
        ("resnet10_small", (16, 8, 4, 2), (16, 32, 64, 128)),
        ("resnet10_tiny", (8, 4, 2, 1), (16, 32, 64, 128)),
        ("preresnet8_small", (16, 8, 4), (16, 32, 64)),
        ("cnn_small", (8, 4, 2), (16, 32, 64)),
        ("cnn_tiny", (4, 2, 1), (16, 32, 64)),
    ],
)
@torch.no_grad()
def test_maps_features_and_logits_by_hook_path(name, sides, channels):
    model = build_classifier(CLASSIFIERS[name], 0).eval()
    logits, maps = collect(model, images(1), (*model.stages, "pooled"))
    shapes = [(1, width, side, side) for width, side in zip(channels, sides, strict=True)]
    assert [tuple(maps[path].shape) for path in model.stages] == shapes
    assert maps["pooled"].shape == (1, model.dimension)
    assert torch.equal(maps["pooled"], model.represent(images(1)))
    assert torch.equal(model.head(maps["pooled"]), logits)
    assert logits.shape == (1, 10)


@torch.no_grad()
def test_a_preactivated_block_by_hand():
    """Both the shortcut and the first batch norm start from the raw input."""
    block = build_classifier(CLASSIFIERS["preresnet8_small"], 0).eval().stage2[0]
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    hidden = block.conv1(relu(x / (1 + 1e-5) ** 0.5))
    expected = block.shortcut(x) + block.conv2(relu(hidden / (1 + 1e-5) ** 0.5))
    assert torch.allclose(block(x), expected, atol=1e-5)
    assert isinstance(block.shortcut, nn.Conv2d)


@torch.no_grad()
def test_the_cnn_by_hand():
    model = build_classifier(ClassifierConfig("cnn", width=16), 0).eval()
    x = (images() - model.mean) / model.std
    for stage in (model.stage1, model.stage2, model.stage3):
        x = relu(torch.max_pool2d(stage[1](stage[0](x)), 2))
    linear, norm = model.pooled[2], model.pooled[3]
    assert torch.equal(adaptive_avg_pool2d(x, 4), x)  # at 32 pixels, nothing is brought to size
    assert torch.allclose(model(images()), model.head(relu(norm(linear(x.flatten(1))))), atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_normalisation_is_inside(name):
    model, shifted = (build_classifier(CLASSIFIERS[name], 0).eval() for _ in range(2))
    shifted.mean.zero_()
    shifted.std.fill_(1.0)
    assert torch.allclose(model(images()), shifted((images() - model.mean) / model.std), atol=1e-4)


@pytest.mark.parametrize("name", [*SMALL, "shufflenetv2", "mobilenetv2"])
def test_nothing_draws_at_random_in_training(name):
    """A dropout would draw from the global generator, which no checkpoint holds."""
    model = build_classifier(CLASSIFIERS[name], 0).train()
    state = torch.get_rng_state()
    first, again = model(images()), model(images())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    model = build_classifier(CLASSIFIERS[name], 0).train()
    model(images(4)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in model.head.parameters())
    assert all(each.grad is not None for each in model.parameters())


def test_the_seed_decides_and_the_global_generator_stays():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, again, other = (build_classifier(CLASSIFIERS["preresnet8_small"], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.stem.weight, again.stem.weight)
    assert not torch.equal(first.stem.weight, other.stem.weight)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_bf16_gives_float32_logits_near_the_others(name):
    model, fast = (build_classifier(CLASSIFIERS[name], 0, precision).eval() for precision in ("float32", "bf16"))
    logits = fast(images())
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, model(images()), atol=0.2)
    assert not torch.equal(logits, model(images()))


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_larger_images_pass_too(name):
    assert build_classifier(CLASSIFIERS[name], 0).eval()(images(2, 64)).shape == (2, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "vgg"}, "unknown family of classifiers 'vgg'; allowed: resnet, preresnet, cnn, shufflenetv2"),
        ({"depth": 12}, "a resnet of depth 12 is impossible; allowed: 0 or 10, 18, 34, 50"),
        ({"family": "preresnet", "depth": 21}, "a preresnet of depth 21 is impossible"),
        ({"family": "cnn", "depth": 3}, "a cnn of depth 3 is impossible"),
        ({"width": 8}, "a resnet of width 8 is impossible; allowed: 0, or at least 16"),
        ({"family": "mobilenetv2", "width": 32}, "a mobilenetv2 of width 32 is impossible; allowed: 0"),
        ({"classes": 1}, "classes 1"),
        ({"stem_stride": 3}, "stem_stride 3"),
    ],
)
def test_impossible_sizes_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        ClassifierConfig(**settings)
