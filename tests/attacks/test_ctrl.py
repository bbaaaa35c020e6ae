"""CTRL's trigger in the spectrum, its placebo, and what it poisons."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from distill_lib.attacks.ctrl import RGB_TO_YUV, CTRLConfig, FrequencyTrigger, dct_matrix, poison
from distill_lib.errors import UsageError
from distill_lib.vision.triggers import placebo


@pytest.fixture(scope="module")
def images():
    """Muted images, so that nothing is clipped."""
    source = torch.Generator().manual_seed(0)
    return torch.randint(60, 190, (50, 3, 32, 32), generator=source, dtype=torch.uint8)


@pytest.fixture(scope="module")
def labels():
    return torch.arange(50) % 5


def spectrum(change):
    """A change (3, H, W) of RGB to the DCT of its Y, U and V, by scipy."""
    yuv = np.tensordot(np.array(RGB_TO_YUV), change.double().numpy(), axes=1)
    return dctn(yuv, axes=(1, 2), norm="ortho")


# ---- the transform --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_the_dct_is_orthonormal_and_scipys(size):
    matrix = dct_matrix(size)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))
    block = torch.rand(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose((matrix @ block @ matrix.T).numpy(), dctn(block.numpy(), norm="ortho"), atol=1e-12)


def test_the_colour_space_keeps_grey_free_of_chroma():
    grey = torch.tensor(RGB_TO_YUV) @ torch.tensor([100.0, 100.0, 100.0])
    torch.testing.assert_close(grey, torch.tensor([100.0, 0.0, 0.0]), atol=1e-3, rtol=0)


# ---- the trigger ----------------------------------------------------------------------------------------------------


def test_only_the_named_positions_of_the_chroma_change():
    luma, *chroma = spectrum(FrequencyTrigger().pattern())
    expected = np.zeros((32, 32))
    expected[15, 15] = expected[31, 31] = 100
    np.testing.assert_allclose(luma, 0, atol=1e-9)
    for channel in chroma:
        np.testing.assert_allclose(channel, expected, atol=1e-9)


def test_stored_images_carry_it_up_to_rounding(images):
    for image, stamped in zip(images[:4], FrequencyTrigger()(images)[:4], strict=True):
        rounding = stamped.double() - image.double() - FrequencyTrigger().pattern()
        assert rounding.abs().max() <= 0.5 + 1e-5
        found = spectrum(stamped.double() - image.double())
        assert found[1:, [15, 31], [15, 31]] == pytest.approx(100, abs=5)
        assert abs(found[0]).max() < 5


def test_it_is_faint_and_leaves_the_images_given(images):
    kept = images.clone()
    stamped = FrequencyTrigger()(images)
    assert torch.equal(images, kept)
    assert (stamped.dtype, stamped.shape) == (torch.uint8, images.shape)
    change = (stamped.int() - images.int()).abs()
    assert 2 < change.double().mean() < 8
    assert change.max() <= 26
    assert (change.flatten(1).sum(1) > 0).all()


def test_bright_and_dark_images_are_clipped_not_wrapped():
    for value in (0, 255):
        image = torch.full((1, 3, 32, 32), value, dtype=torch.uint8)
        assert (FrequencyTrigger()(image).int() - value).abs().max() <= 26


def test_larger_images_are_tiled_by_the_window():
    trigger = FrequencyTrigger(positions=((1, 2),), window=16)
    pattern = trigger.pattern(32, 48)
    assert pattern.shape == (3, 32, 48)
    assert torch.equal(pattern[:, :16, :16], pattern[:, 16:, 32:])
    assert torch.equal(pattern[:, :16, :16], trigger.pattern(16, 16))


def test_the_published_facts_are_the_defaults():
    config = CTRLConfig()
    assert (config.rate, config.trigger.magnitude, config.trigger.window) == (0.01, 100, 32)
    assert config.trigger.positions == ((15, 15), (31, 31))


# ---- its placebo ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        FrequencyTrigger(),
        FrequencyTrigger(40.0, ((3, 3),)),
        FrequencyTrigger(10.0, ((3, 3), (3, 19))),  # half a window apart: another shift is found
        FrequencyTrigger(10.0, ((0, 0), (5, 7)), 8),
    ],
)
def test_the_placebo_has_equal_magnitude_at_other_positions(trigger):
    control = placebo(trigger)
    assert (control.magnitude, control.window) == (trigger.magnitude, trigger.window)
    assert len(control.positions) == len(trigger.positions)
    assert not set(control.positions) & set(trigger.positions)
    size = trigger.window
    energies = [each.pattern(size, size).square().sum().item() for each in (trigger, control)]
    assert energies[0] == pytest.approx(energies[1])
    found = spectrum(control.pattern(size, size))[1]
    assert {tuple(each) for each in np.argwhere(abs(found) > 1e-6)} == set(control.positions)


def test_the_published_triggers_placebo_crosses_its_frequencies():
    assert placebo(FrequencyTrigger()).positions == ((15, 31), (31, 15))


def test_where_every_position_of_a_row_is_taken_there_is_no_placebo():
    with pytest.raises(UsageError, match="no other positions are left for a placebo"):
        FrequencyTrigger(positions=((0, 0), (0, 1)), window=2).placebo()


# ---- poisoning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "count"), [(0.01, 1), (0.1, 5), (0.2, 10)])
def test_the_rate_counts_the_whole_set_and_the_class_alone_is_poisoned(images, labels, rate, count):
    poisoned, rows = poison(images, labels, CTRLConfig(3, rate), seed=0)
    assert len(rows) == count
    assert (labels[rows] == 3).all()
    different = (poisoned != images).flatten(1).any(1).nonzero().squeeze(1)
    assert torch.equal(different, rows)
    assert torch.equal(poisoned[rows], FrequencyTrigger()(images[rows]))


def test_the_seed_decides_which(images, labels):
    rows = [poison(images, labels, CTRLConfig(3, 0.1), seed).rows.tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


def test_a_rate_beyond_the_class_is_named(images, labels):
    with pytest.raises(
        UsageError, match=r"a poison rate of 0.3 asks for 15 images of class 3, which has 10; .* at most 0.2"
    ):
        poison(images, labels, CTRLConfig(3, 0.3), 0)


@pytest.mark.parametrize("rate", [0, 1.5])
def test_an_impossible_rate_is_named(rate):
    with pytest.raises(UsageError, match=f"a poison rate of {rate} is not allowed"):
        CTRLConfig(rate=rate)


def test_an_absent_class_is_named(images, labels):
    with pytest.raises(UsageError, match="class 5 to poison has no image; allowed: 0, 1, 2, 3, 4"):
        poison(images, labels, CTRLConfig(5), 0)


@pytest.mark.parametrize("positions", [(), ((32, 0),), ((-1, 3),)])
def test_positions_outside_the_window_are_named(positions):
    with pytest.raises(UsageError, match="do not lie in a window of 32; allowed: one or more pairs of 0 to 31"):
        FrequencyTrigger(positions=positions)


@pytest.mark.parametrize("magnitude", [0, -3.0, math.inf, math.nan])
def test_an_impossible_magnitude_is_named(magnitude):
    with pytest.raises(UsageError, match=f"a trigger magnitude of {magnitude} is impossible"):
        FrequencyTrigger(magnitude)


def test_a_window_that_does_not_divide_the_image_is_named(images):
    with pytest.raises(UsageError, match="a DCT window of 20 pixels does not divide an image of 32 x 32"):
        FrequencyTrigger(window=20, positions=((1, 1),))(images)
