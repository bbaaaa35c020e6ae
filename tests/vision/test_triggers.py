"""Triggers to the pixel."""

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.vision.triggers import Patch, ScatteredPatch, corner_patch, placebo


def pixels(count=4, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, (count, 3, height, width), generator=generator, dtype=torch.uint8)  # never white


def mask(patch, size=32):
    """Where a patch changes a grey image, (size, size)."""
    grey = torch.full((1, 3, size, size), 99, dtype=torch.uint8)
    return (patch(grey) != grey).any(1)[0]


def test_badencoders_square_is_white_at_rows_and_columns_21_to_30():
    images = pixels()
    stamped = Patch()(images)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    for row in range(21, 31):
        for column in range(21, 31):
            inside[row, column] = True
    assert (stamped[..., inside] == 255).all()
    assert torch.equal(stamped[..., ~inside], images[..., ~inside])
    assert stamped.dtype == torch.uint8
    assert stamped.shape == images.shape


def test_the_images_given_stay_as_they_were():
    images = pixels()
    kept = images.clone()
    stamped = Patch()(images)
    assert torch.equal(images, kept)
    assert stamped.data_ptr() != images.data_ptr()
    assert torch.equal(Patch()(stamped), stamped)


def test_place_size_and_colour():
    stamped = Patch(2, 3, 5, (1, 2, 3))(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))
    assert stamped.nonzero()[:, 2].unique().tolist() == [3, 4]
    assert stamped.nonzero()[:, 3].unique().tolist() == [5, 6]
    assert stamped[0, :, 3:5, 5:7].flatten(1).tolist() == [[1] * 4, [2] * 4, [3] * 4]


@pytest.mark.parametrize(
    ("size", "image_size", "first", "last"), [(10, 32, 21, 30), (50, 224, 173, 222), (4, 32, 27, 30)]
)
def test_corner_patch_is_one_pixel_off_the_corner(size, image_size, first, last):
    rows, columns = mask(corner_patch(size, image_size), image_size).nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (first, last, first, last)


def test_the_default_corner_patch_is_the_default_patch():
    assert corner_patch() == Patch()


@pytest.mark.parametrize(
    "patch", [Patch(33), Patch(10, 23, 21), Patch(10, 21, 23), Patch(10, -1, 0), Patch(0), Patch(-2)]
)
def test_a_trigger_that_does_not_fit_is_named(patch):
    with pytest.raises(UsageError, match=f"a trigger of {patch.size} pixels .* does not fit an image of 32 x 32"):
        patch(pixels())


def test_the_shorter_side_counts():
    patch = Patch(4, 10, 10)
    assert patch(pixels(1, 14, 20)).shape == (1, 3, 14, 20)
    with pytest.raises(UsageError):
        patch(pixels(1, 20, 13))


@pytest.mark.parametrize("size", [0, 32, 40])
def test_a_corner_patch_that_does_not_fit_is_named(size):
    with pytest.raises(UsageError, match=f"a trigger of {size} pixels does not fit; allowed: 1 to 31"):
        corner_patch(size)


@pytest.mark.parametrize("size", range(1, 16))
def test_the_placebo_has_equal_area_at_a_disjoint_place_in_another_colour(size):
    trigger = corner_patch(size)
    control = placebo(trigger)
    assert mask(control).sum() == mask(trigger).sum() == size**2
    assert not (mask(control) & mask(trigger)).any()
    assert control.colour != trigger.colour


def test_the_placebo_of_a_blue_patch_is_not_blue():
    assert placebo(Patch(4, colour=(0, 0, 255))).colour == (255, 255, 0)
    assert placebo(Patch(4)).colour == (0, 0, 255)


# ---- a patch at random places ---------------------------------------------------------------------------------------


def test_a_scattered_patch_covers_one_square_of_each_image_and_nothing_else():
    images = pixels(50)
    trigger = ScatteredPatch(6, (255, 255, 255), seed=3)
    stamped = trigger(images)
    rows, columns = trigger.places(images)
    for before, after, row, column in zip(images, stamped, rows, columns, strict=True):
        expected = before.clone()
        expected[:, row : row + 6, column : column + 6] = 255
        assert torch.equal(after, expected)
    assert stamped.dtype == torch.uint8


def test_places_are_spread_over_the_whole_image():
    """27 rows by 27 columns fit 6 pixels in 32; 4,000 images reach them all about equally."""
    rows, columns = ScatteredPatch(6).places(pixels(4000))
    for each in (rows, columns):
        counts = torch.bincount(each, minlength=27)
        assert len(counts) == 27
        assert counts.min() > 90  # 148 on average, deviation 12
        assert counts.max() < 210
    assert abs(torch.corrcoef(torch.stack([rows, columns]).double())[0, 1]) < 0.06


def test_an_images_place_does_not_depend_on_its_batch():
    images, trigger = pixels(9), ScatteredPatch(5)
    assert torch.equal(trigger(images), torch.cat([trigger(images[:2]), trigger(images[2:])]))
    assert not torch.equal(trigger(images), ScatteredPatch(5, seed=1)(images))


def test_a_scattered_patch_leaves_the_images_given():
    images = pixels()
    kept = images.clone()
    ScatteredPatch()(images)
    assert torch.equal(images, kept)


def test_a_scattered_patch_fills_an_image_of_its_size():
    assert (ScatteredPatch(32, (1, 2, 3))(pixels(1)).unique() == torch.tensor([1, 2, 3])).all()


@pytest.mark.parametrize("size", [0, 33])
def test_a_scattered_patch_that_does_not_fit_is_named(size):
    with pytest.raises(UsageError, match=f"a trigger of {size} pixels does not fit an image of 32 x 32; allowed: 1 to"):
        ScatteredPatch(size)(pixels())


def test_the_placebo_of_a_scattered_patch_has_other_places_and_another_colour():
    images, trigger = pixels(40), ScatteredPatch(6)
    control = placebo(trigger)
    assert (control.size, control.colour) == (6, (0, 0, 255))
    same = [torch.equal(a, b) for a, b in zip(trigger.places(images), control.places(images), strict=True)]
    assert same == [False, False]
