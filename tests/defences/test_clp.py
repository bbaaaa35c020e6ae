"""CLP against a slow transcription, and a planted channel."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch

from distill_lib.defences.clp import CLPConfig, bounds, clp, layers, outliers
from distill_lib.errors import UsageError


def slow(encoder, u):
    """Channel by channel and layer by layer, with numpy's SVD: {path of the batch norm: [channels]}."""
    modules, pruned, kernels = dict(encoder.named_modules()), {}, None
    for path, module in modules.items():
        if hasattr(module, "kernel_size"):
            kernels = module.weight.detach().double().numpy()
        if type(module).__name__ == "BatchNorm2d":
            found = []
            for channel, kernel in enumerate(kernels):
                steepness = np.linalg.svd(kernel.reshape(kernel.shape[0], -1), compute_uv=False).max()
                scale = abs(module.weight[channel].item()) / math.sqrt(module.running_var[channel].item())
                found.append(steepness * scale)
            mean = sum(found) / len(found)
            sd = math.sqrt(sum((each - mean) ** 2 for each in found) / (len(found) - 1))
            pruned[path] = [channel for channel, each in enumerate(found) if each > mean + u * sd]
    return pruned


@pytest.mark.parametrize("u", [0.0, 0.8, 1.5, 3.0])
def test_the_channels_of_a_slow_transcription_are_pruned(any_encoder, u):
    expected = slow(any_encoder, u)
    found = clp(any_encoder, CLPConfig(u))
    assert {path: channels.tolist() for path, channels in found.items()} == expected
    if u < 3:
        assert any(expected.values())


def test_bounds_of_one_layer_by_numpy(encoder):
    block = encoder.stage2[0]
    for channel, bound in enumerate(bounds(block.conv1, block.bn1)):
        kernel = block.conv1.weight[channel].detach().flatten(1).numpy()
        scale = block.bn1.weight[channel].abs() / block.bn1.running_var[channel].sqrt()
        assert bound.item() == pytest.approx(np.linalg.norm(kernel, 2) * scale.item(), rel=1e-5)


def test_every_batch_norm_is_paired_with_the_convolution_before_it(any_encoder):
    pairs = layers(any_encoder)
    norms = [name for name, each in any_encoder.named_modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert [path for path, _, _ in pairs] == norms
    assert all(convolution.out_channels == norm.num_features for _, convolution, norm in pairs)
    assert len({id(convolution) for _, convolution, _ in pairs}) == len(pairs)
    paths = {each: name for name, each in any_encoder.named_modules()}
    for path, convolution, _ in pairs:
        assert paths[convolution] == (path[:-1] + "0" if "shortcut" in path else path.replace("bn", "conv"))


def test_a_planted_channel_is_found_and_nothing_else_changes(encoder, same):
    """In stage 3's 16 channels; u of 3 is out of reach in the layers of fewer than 11."""
    before = deepcopy(encoder.state_dict())
    with torch.no_grad():
        encoder.stage3[0].conv1.weight[5] *= 100
    planted = deepcopy(encoder.state_dict())
    found = clp(encoder)
    assert found.pop("stage3.0.bn1").tolist() == [5]
    assert all(path.startswith("stage4") or not len(channels) for path, channels in found.items())
    norm = encoder.stage3[0].bn1
    assert (norm.weight[5], norm.bias[5]) == (0, 0)
    others = [channel for channel in range(16) if channel != 5]
    assert torch.equal(norm.weight[others], before["stage3.0.bn1.weight"][others])
    pruned = ["stage3.0.bn1", *(path for path, channels in found.items() if len(channels))]
    touched = [f"{path}.{what}" for path in pruned for what in ("weight", "bias")]
    assert same(planted, encoder.state_dict(), *touched)


def test_a_pruned_channel_is_silent(encoder):
    with torch.no_grad():
        encoder.stage3[0].conv1.weight[5] *= 100
    clp(encoder)
    seen = []
    encoder.stage3[0].bn1.register_forward_hook(lambda _m, _i, output: seen.append(output))
    encoder(torch.rand(3, 3, 32, 32))
    assert (seen[0][:, 5] == 0).all()


def test_the_scale_is_without_batch_norms_epsilon(encoder):
    block = encoder.stage1[0]
    with torch.no_grad():
        block.bn1.running_var.fill_(1e-6)
        block.bn1.weight.fill_(1.0)
        block.conv1.weight.zero_()
        block.conv1.weight[:, 0, 1, 1] = 1.0
    assert bounds(block.conv1, block.bn1).tolist() == pytest.approx([1000.0] * 4)


def test_a_channel_that_is_switched_off_has_no_slope(encoder):
    block = encoder.stage1[0]
    with torch.no_grad():
        block.bn1.weight[0] = 0
        block.bn1.running_var[0] = 0
        block.conv1.weight[1] = 0
        block.bn1.running_var[1] = 0
    assert bounds(block.conv1, block.bn1)[:2].tolist() == [0, 0]


def test_outliers():
    values = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 1], dtype=torch.float64)
    assert outliers(values, 3.0).tolist() == [10]
    assert outliers(values[:9], 3.0).tolist() == []
    assert outliers(torch.tensor([1.0, torch.inf, 1.5, 1.2, 9.0]), 1.4).tolist() == [1, 4]  # inf does not hide 9
    assert outliers(torch.tensor([4.0]), 0.0).tolist() == []


@pytest.mark.parametrize(("count", "found"), [(2, []), (10, []), (11, [0]), (64, [0])])
def test_three_deviations_take_eleven_channels(count, found):
    """One value of n lies at most (n - 1) / sqrt(n) deviations above their mean."""
    values = torch.zeros(count, dtype=torch.float64)
    values[0] = 1.0
    assert outliers(values, 3.0).tolist() == found
    assert outliers(values, (count - 1) / math.sqrt(count) - 1e-6).tolist() == [0]


@pytest.mark.parametrize("u", [-1, math.nan, math.inf])
def test_an_impossible_threshold_is_named(u):
    with pytest.raises(UsageError, match=f"a pruning threshold u of {u} is impossible; allowed: 0 or a positive"):
        CLPConfig(u)
