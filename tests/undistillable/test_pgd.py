"""PGD: against a slow reference, inside its ball and its range, and as bytes."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill_lib.errors import UsageError
from distill_lib.undistillable.pgd import (
    PIXEL,
    SPACES,
    AdversarialSet,
    PGDConfig,
    adversarial_set,
    clamped_set,
    frozen,
    pgd,
)
from distill_lib.vision.features import to_unit

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)  # as the release normalises
FEW = {"pixel": PGDConfig(0.06, 0.02, 5, "pixel"), "normalised": PGDConfig(0.3, 0.1, 5)}


def by_hand(model, images, labels, config):
    """As published: the whole network's gradient by `backward`, in the coordinates of the space."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    if config.space == "pixel":
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    original = (images - mean) / std
    current = original.clone()
    for _ in range(config.iterations):
        current = current.clone().requires_grad_()
        model.zero_grad()
        cross_entropy(model(current * std + mean), labels).backward()
        moved = current.detach() + config.step * current.grad.sign()
        change = (moved - original).clamp(-config.epsilon, config.epsilon)
        current = (original + change).clamp(0, 1).detach()
    return current


@pytest.mark.parametrize("space", FEW)
def test_it_equals_the_slow_reference(normal, data, space):
    images, labels = to_unit(data[0][:16]), data[1][:16]
    found = pgd(frozen(normal), images, labels, FEW[space])
    expected = by_hand(copy.deepcopy(normal), images, labels, FEW[space])
    # A gradient that is 0 up to rounding may take either sign.
    assert ((found - expected).abs() < 1e-5).float().mean() > 0.999


@pytest.mark.parametrize("iterations", [1, 5, 40])
def test_in_pixel_space_it_stays_in_ball_and_range_and_fills_them(normal, data, iterations):
    images, labels = to_unit(data[0]), data[1]
    config = PGDConfig(0.06, 0.02, iterations, "pixel")
    found = pgd(frozen(normal), images, labels, config)
    assert (found - images).abs().max() <= config.epsilon + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    assert (found - images).abs().max() > min(iterations * 0.02, 0.06) - 1e-6


def test_in_normalised_space_it_stays_in_range_and_leaves_the_ball(normal, data):
    """As released: the clamp takes what is darker than the mean away from the image."""
    images, labels = to_unit(data[0]), data[1]
    found = pgd(frozen(normal), images, labels, FEW["normalised"])
    assert 0 <= found.min() <= found.max() <= 1
    normalised = SPACES["normalised"].values(images)
    inside = (normalised > 0.3) & (normalised < 0.7)
    assert (found - normalised)[inside].abs().max() <= 0.3 + 1e-6
    assert (found - normalised).abs().max() > 1


@pytest.mark.parametrize("space", FEW)
def test_the_loss_rises(normal, data, space):
    images, labels = to_unit(data[0]), data[1]
    # In normalised space, against the clean image clamped likewise.
    start = SPACES[space].pixels(SPACES[space].values(images).clamp(0, 1))
    found = SPACES[space].pixels(pgd(frozen(normal), images, labels, FEW[space]))
    assert cross_entropy(normal(found), labels) > cross_entropy(normal(start), labels) + 0.05


def test_the_attacked_network_is_left_as_it_is(normal, data, same):
    before = copy.deepcopy(normal).train()
    normal.train()
    adversarial_set(normal, *data, FEW["pixel"])
    assert same(normal, before)
    assert normal.training
    assert all(each.requires_grad and each.grad is None for each in normal.parameters())


def test_no_gradient_reaches_the_parameters(normal, data):
    attacked = frozen(normal)
    found = pgd(attacked, to_unit(data[0][:4]), data[1][:4], FEW["pixel"])
    assert not found.requires_grad
    assert all(each.grad is None and not each.requires_grad for each in attacked.parameters())
    with torch.no_grad():  # also where gradients are off
        assert torch.equal(pgd(attacked, to_unit(data[0][:4]), data[1][:4], FEW["pixel"]), found)


@pytest.mark.parametrize("space", FEW)
def test_a_set_is_kept_as_bytes_near_the_found_values(normal, data, space):
    kept = adversarial_set(normal, *data, FEW[space])
    found = pgd(frozen(normal), to_unit(data[0]), data[1], FEW[space])
    assert kept.values.dtype == torch.uint8
    assert kept.values.shape == data[0].shape
    assert (kept.values.float() / 255 - found).abs().max() <= 1 / 255 + 1e-6
    pixels = kept.pixels(kept.values.float() / 255)
    assert torch.allclose(pixels, SPACES[space].pixels(kept.values.float() / 255))


@pytest.mark.parametrize("epsilon", [0.06, 8 / 255, 0.0399])
def test_bytes_stay_in_the_ball(normal, data, epsilon):
    kept = adversarial_set(normal, *data, PGDConfig(epsilon, 0.02, 5, "pixel"))
    change = (kept.values.int() - data[0].int()).abs().max()
    assert change == int(255 * epsilon + 1e-3)


def test_there_and_back_again():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for space in SPACES.values():
        assert torch.allclose(space.pixels(space.values(images)), images, atol=1e-6)
    assert torch.equal(AdversarialSet(images, "pixel").pixels(images), images)
    black = SPACES["normalised"].values(torch.zeros(1, 3, 1, 1)).flatten()
    assert black.tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)])


def test_the_published_settings_are_the_defaults():
    assert PGDConfig() == PGDConfig(0.3, 0.01, 40, "normalised")
    assert SPACES["normalised"] == (MEAN, STD)


def test_the_pixel_preset_is_the_published_radius_in_pixels():
    unit = sum(STD) / 3
    assert (PIXEL.epsilon, PIXEL.step) == pytest.approx((0.3 * unit, 0.01 * unit), rel=2e-3)
    assert PIXEL.iterations == PGDConfig().iterations


@pytest.mark.parametrize("settings", [{"epsilon": 0}, {"step": -1}, {"iterations": 0}])
def test_impossible_settings_are_named(settings):
    with pytest.raises(UsageError, match="are impossible; allowed: epsilon > 0"):
        PGDConfig(**settings)
    with pytest.raises(UsageError, match="unknown space of adversarial images 'rgb'; allowed: pixel, normalised"):
        PGDConfig(space="rgb")


def test_clamped_images_lose_what_is_darker_than_the_mean_and_nothing_else(data):
    images, space = data[0][:16], SPACES["normalised"]
    found = clamped_set(images, "normalised")
    shown, clean = found.pixels(found.values.float() / 255), to_unit(images)
    mean, std = space.tensors(clean)
    expected = torch.maximum(torch.minimum(clean, mean + std), mean)  # 0 to 1 in normalised space
    assert (shown - expected).abs().max() <= std.max() / 510 + 1e-6
    assert torch.equal(clamped_set(images, "pixel").values, images)
