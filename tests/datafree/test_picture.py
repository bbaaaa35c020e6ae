"""The one picture and its patches."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill_lib.datafree.picture import PatchConfig, PictureConfig, _break_marks, dead_leaves, patches
from distill_lib.errors import UsageError
from distill_lib.study.config.load import load_profile
from distill_lib.vision.augment import Augmentation

PROFILES = ("quick", "laptop", "gpu", "paper")
SMALL = PictureConfig(128, 600)
PLAIN = Augmentation(crop_scale=None, flip=0.0, jitter_probability=0.0, greyscale=0.0)


@pytest.fixture(scope="module")
def picture():
    return dead_leaves(SMALL)


def test_the_picture_is_the_same_everywhere(picture):
    assert (picture.dtype, picture.shape) == (torch.uint8, (3, 128, 128))
    assert torch.equal(picture, dead_leaves(SMALL))
    assert hashlib.sha256(picture.numpy().tobytes()).hexdigest()[:16] == "b79510c61330d259"
    assert not torch.equal(picture, dead_leaves(replace(SMALL, seed=8)))


def test_it_has_detail_on_every_scale(picture):
    levels = [picture.float()[None]]
    for _ in range(4):
        levels.append(torch.nn.functional.avg_pool2d(levels[-1], 2))
    assert all((level[..., 1:] - level[..., :-1]).abs().mean() > 4 for level in levels)


def shown(picture, mark):
    """How often the nine pixels, row by row, stand in the picture in black and white."""
    pixels = torch.tensor([255.0 * int(each) for each in mark])
    windows = torch.nn.functional.unfold(picture.float()[:, None], 3)  # (3, 9, places)
    return int((windows == pixels[None, :, None]).all(1).all(0).sum())


def test_spared_marks_are_not_in_the_picture():
    chequer, mirrored = "001010101", "100010101"
    config = PictureConfig(512, 50, marks=1200)
    before, after = dead_leaves(config), dead_leaves(replace(config, spared=(chequer,)))
    assert min(shown(before, chequer), shown(before, mirrored)) > 0
    assert shown(after, chequer) == shown(after, mirrored) == 0
    assert shown(after, "110010011") > 0
    assert torch.equal(dead_leaves(replace(SMALL, spared=(chequer,))), dead_leaves(SMALL))  # no marks, nothing to spare


def test_marks_that_others_form_together_are_broken(monkeypatch):
    """Of 4,000 marks on this canvas many overlap, and some show the chequer although none was drawn as it."""
    config = PictureConfig(256, 50, marks=4000, spared=("001010101",))
    after = dead_leaves(config)
    monkeypatch.setattr("distill_lib.datafree.picture._break_marks", lambda *_: None)
    before = dead_leaves(config)
    assert shown(before, "001010101") + shown(before, "100010101") > 2
    assert shown(after, "001010101") == shown(after, "100010101") == 0
    changed = (before != after).any(0)
    assert int(changed.sum()) <= shown(before, "001010101") + shown(before, "100010101")
    assert torch.equal(after[:, changed], 255 - before[:, changed])
    assert set(before[:, changed].flatten().tolist()) <= {0, 255}


def test_breaking_a_mark_turns_one_pixel_and_forms_no_other():
    canvas = np.full((3, 5, 7), 128, dtype=np.uint8)
    chequer = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]])
    canvas[:, 1:4, 2:5] = 255 * chequer
    before = canvas.copy()
    _break_marks(canvas, [chequer])
    assert (canvas != before).any(0).sum() == 1
    assert set(canvas[canvas != before].tolist()) == {255}  # the first pixel, black before
    again = canvas.copy()
    _break_marks(canvas, [chequer])
    assert (canvas == again).all()


def test_no_profiles_picture_shows_what_it_spares():
    """And quick's, which never did, keeps the bytes it had before marks were broken."""
    configs = {name: load_profile(name).datafree.ood.patches.picture for name in PROFILES}
    drawn = {config: dead_leaves(config) for config in set(configs.values())}
    assert hashlib.sha256(drawn[configs["quick"]].numpy().tobytes()).hexdigest()[:16] == "8b716556e50a319f"
    for config, picture in drawn.items():
        assert config.spared == ("001010101",)
        assert shown(picture, "001010101") == shown(picture, "100010101") == 0


@pytest.mark.parametrize("mark", ["0101", "00101010x", ""])
def test_a_spared_mark_is_nine_pixels(mark):
    with pytest.raises(UsageError, match=f"the spared mark {mark!r} is impossible; allowed: 9 of 0 and 1"):
        PictureConfig(spared=(mark,))


def test_patches_have_type_number_and_variety(picture):
    cut = patches(PatchConfig(50), 0, picture)
    assert (cut.dtype, cut.shape) == (torch.uint8, (50, 3, 32, 32))
    assert len({each.numpy().tobytes() for each in cut}) == 50
    assert cut.float().flatten(1).std(1).median() > 15
    assert torch.equal(cut, patches(PatchConfig(50), 0, picture))
    assert not torch.equal(cut, patches(PatchConfig(50), 1, picture))


def test_a_patch_of_full_resolution_is_a_crop():
    """A ramp, cut without turning at a scale of one to one, keeps its slope."""
    ramp = torch.arange(64, dtype=torch.uint8).mul(2).expand(3, 64, 64).contiguous()
    cut = patches(PatchConfig(20, smallest=32, turn=0.0, augmentation=PLAIN), 0, ramp).float()
    inner = cut[:, :, :, 1:-1]
    assert torch.allclose(inner[..., 1:] - inner[..., :-1], torch.full((), 2.0), atol=1.01)
    assert torch.allclose((inner[..., -1] - inner[..., 0]), torch.full((), 2.0 * 29), atol=1.01)
    assert torch.equal(cut[:, :, 0], cut[:, :, -1])
    assert len(set(cut[:, 0, 0, 0].tolist())) > 5


def test_other_sizes_and_pictures_are_cut_too(picture):
    own = PatchConfig(3, picture=SMALL)
    assert torch.equal(patches(own, 0), patches(own, 0, picture))
    assert patches(PatchConfig(3, size=16), 0, picture).shape == (3, 3, 16, 16)


def test_a_share_of_exact_patches_is_scaled_all_the_same(picture):
    config = PatchConfig(8, smallest=32, turn=0.0, exact=True, augmentation=PLAIN)
    crops = {
        bytes(each.numpy()) for each in picture.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    }
    for scaled, found in ((0.0, 8), (0.25, 6), (0.5, 4)):
        cut = patches(replace(config, scaled=scaled), 0, picture)
        assert len(cut) == 8
        assert sum(bytes(each.contiguous().numpy()) in crops for each in cut) == found


def test_wrong_values_are_named(picture):
    with pytest.raises(UsageError, match="radii 5 to 4 are impossible"):
        PictureConfig(smallest=5, largest=4)
    with pytest.raises(UsageError, match="count 0, size 32"):
        PatchConfig(0)
    with pytest.raises(UsageError, match=r"a picture of \(128, 128\) pixels is too small for patches from 100 pixels"):
        patches(PatchConfig(2, smallest=100), 0, picture)
    with pytest.raises(UsageError, match=r"contrast -1, tone 1\.0, marks 0"):
        PictureConfig(contrast=-1)
    with pytest.raises(UsageError, match=r"too small for patches from 200 pixels on; allowed: 200 or more"):
        patches(PatchConfig(2, size=200, exact=True), 0, picture)
    with pytest.raises(UsageError, match=r"too small for patches from 80 pixels on; allowed: 160 or more"):
        patches(PatchConfig(2, smallest=80, exact=True, scaled=0.5), 0, picture)
    with pytest.raises(UsageError, match=r"scaled 0\.5 is impossible; allowed: 0 to 1, above 0 with `exact` alone"):
        PatchConfig(scaled=0.5)
    with pytest.raises(UsageError, match=r"scaled 1\.5 is impossible"):
        PatchConfig(exact=True, scaled=1.5)


def test_contrast_and_tone_shrink_what_the_picture_has(picture):
    grey = dead_leaves(replace(SMALL, tone=0.0)).int()
    assert (grey.amax(0) - grey.amin(0)).max() == 0
    muted = dead_leaves(replace(SMALL, contrast=0.5, tone=0.1)).float()
    assert muted.mean(0).std() == pytest.approx(0.5 * picture.float().mean(0).std().item(), rel=0.1)
    assert (muted - muted.mean(0)).abs().mean() < 0.15 * (picture.float() - picture.float().mean(0)).abs().mean()


def test_marks_are_black_or_white_and_small(picture):
    marked = dead_leaves(replace(SMALL, marks=20))
    changed = (marked != picture).any(0)
    assert 20 < int(changed.sum()) <= 20 * 9
    assert set(marked[:, changed].flatten().tolist()) == {0, 255}


def test_exact_patches_are_crops(picture):
    cut = patches(PatchConfig(5, size=32, exact=True, augmentation=PLAIN), 0, picture)
    windows = picture.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert all((windows == each).flatten(1).all(1).any() for each in cut)
    assert len({each.numpy().tobytes() for each in cut}) == 5
