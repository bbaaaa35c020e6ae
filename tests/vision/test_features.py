"""Features by hook path, and features of a whole set."""

import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.vision.encoders import STAGES, EncoderConfig, build_encoder
from distill_lib.vision.features import collect, extract, hooked, to_unit
from distill_lib.vision.triggers import Patch


@pytest.fixture
def encoder():
    return build_encoder(EncoderConfig(10, 4, 4), 0)


def pixels(count=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def hooks(module):
    return sum(len(each._forward_hooks) for each in module.modules())


def by_hand(encoder, images):
    """The encoder's own forward, stage after stage."""
    x = torch.relu(encoder.bn(encoder.conv((images - encoder.mean) / encoder.std)))
    maps = {}
    for stage in STAGES:
        x = maps[stage] = encoder.get_submodule(stage)(x)
    return x.mean((2, 3)), maps


def test_to_unit():
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    unit = to_unit(images)
    assert unit.dtype == torch.float32
    assert unit.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unit, torch.arange(256).repeat(3).view(1, 3, 16, 16) / 255)
    assert images.dtype == torch.uint8


def test_collect_gives_the_real_outputs_of_the_stages(encoder):
    images = to_unit(pixels())
    output, maps = collect(encoder.eval(), images)
    expected_output, expected = by_hand(encoder, images)
    assert torch.equal(output, expected_output)
    assert list(maps) == list(STAGES)
    assert all(torch.equal(maps[stage], expected[stage]) for stage in STAGES)


def test_collect_any_path_with_gradients(encoder):
    images = to_unit(pixels(2))
    output, maps = collect(encoder, images, ("stage2.0.conv1", "bn"))
    assert set(maps) == {"stage2.0.conv1", "bn"}
    (gradient,) = torch.autograd.grad(output.sum(), maps["stage2.0.conv1"])
    assert gradient.abs().sum() > 0


def test_hooks_are_removed_afterwards(encoder):
    _, maps = collect(encoder, to_unit(pixels(2)))
    assert hooks(encoder) == 0
    kept = maps["stage1"].clone()
    encoder(to_unit(pixels(2, seed=1)))
    assert torch.equal(maps["stage1"], kept)


def test_hooks_are_removed_when_the_forward_fails(encoder):
    with pytest.raises(RuntimeError):
        collect(encoder, torch.zeros(1, 5, 32, 32))
    assert hooks(encoder) == 0


def test_hooks_are_removed_when_a_path_is_unknown(encoder):
    with pytest.raises(AttributeError, match="stage9"):
        collect(encoder, to_unit(pixels(1)), ("stage1", "stage9"))
    assert hooks(encoder) == 0


def test_hooked_holds_the_latest_forward(encoder):
    encoder.eval()
    first, second = to_unit(pixels(2)), to_unit(pixels(3, seed=1))
    with hooked(encoder, ["stage4"]) as maps:
        assert maps == {}
        encoder(first)
        before = maps["stage4"]
        encoder(second)
        assert torch.equal(maps["stage4"], by_hand(encoder, second)[1]["stage4"])
        assert torch.equal(before, by_hand(encoder, first)[1]["stage4"])


@pytest.mark.parametrize("batch", [1, 3, 10, 512])
def test_extract_equals_one_pass_in_eval_mode(encoder, batch):
    encoder(torch.rand(16, 3, 32, 32))  # running statistics that differ from a batch's
    features = extract(encoder, pixels(), batch)
    with torch.no_grad():
        expected = encoder.eval()(to_unit(pixels()))
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-6)


def test_extract_changes_nothing_in_the_encoder(encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    extract(encoder.train(), pixels())
    assert all(each.training for each in encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    extract(encoder.eval(), pixels())
    assert not any(each.training for each in encoder.modules())


def test_extract_applies_the_transform_to_uint8_batches(encoder):
    seen = []

    def trigger(images):
        seen.append((len(images), images.dtype))
        return Patch()(images)

    features = extract(encoder, pixels(), 4, trigger)
    assert seen == [(4, torch.uint8), (4, torch.uint8), (2, torch.uint8)]
    torch.testing.assert_close(features, extract(encoder, Patch()(pixels()), 4))
    assert not torch.allclose(features, extract(encoder, pixels(), 4))


def test_extract_restores_train_mode_when_the_transform_fails(encoder):
    with pytest.raises(UsageError):
        extract(encoder.train(), pixels(), transform=Patch(40))
    assert all(each.training for each in encoder.modules())


def test_extract_gives_float32_from_low_precision():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).bfloat16()
    low = nn.Sequential(Cast(torch.bfloat16), model)
    assert extract(low, pixels()).dtype == torch.float32


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)
