"""Crop and flip: against a slow crop image by image, and its distribution."""

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.vision.crop_flip import CropFlip


@pytest.fixture(scope="module")
def images():
    return torch.randint(1, 256, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def all_views(image, padding):
    """Every view of an image (3, H, W) by slicing, with its shift and flip."""
    padded = torch.nn.functional.pad(image, (padding,) * 4)
    height, width = image.shape[1:]
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            yield (top, left, False), crop
            yield (top, left, True), crop.flip(2)


def test_every_view_is_a_crop_and_all_kinds_occur(images):
    padding = 1
    seen = set()
    for seed in range(3):
        views = CropFlip(padding)(images, torch.Generator().manual_seed(seed))
        assert views.dtype == torch.float32
        assert views.is_contiguous(memory_format=torch.channels_last)
        for image, view in zip(images, views, strict=True):
            matches = [key for key, each in all_views(image, padding) if torch.equal(each.float() / 255, view)]
            assert len(matches) == 1
            seen.update(matches)
    assert len(seen) == 2 * (2 * padding + 1) ** 2  # 18 kinds, 150 views


def test_without_padding_and_flip_nothing_changes(images):
    views = CropFlip(0, 0.0)(images, torch.Generator().manual_seed(0))
    assert torch.equal(views, images.float() / 255)
    assert torch.equal(CropFlip(0, 1.0)(images, torch.Generator()), images.flip(3).float() / 255)


def test_impossible_settings_are_named():
    with pytest.raises(UsageError, match=r"padding -1 and flip 0\.5 are impossible"):
        CropFlip(-1)
    with pytest.raises(UsageError, match="flip 2 are impossible"):
        CropFlip(flip=2)
