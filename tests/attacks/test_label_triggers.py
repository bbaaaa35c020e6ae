"""The ten triggers, pixel by pixel where the publication says so."""

import hashlib
import math

import pytest
import torch

from distill_lib.attacks.label_triggers import RECIPES, TRIGGERS, LabelTrigger
from distill_lib.errors import UsageError

PATCHES = {  # rows and columns of the whole area that may change
    "badnet_grid": (range(29, 32), range(29, 32)),
    "badnet_sq": (range(27, 31), range(27, 31)),
    "trojan_3x3": (range(25, 28), range(25, 28)),
    "trojan_8x8": (range(21, 30), range(21, 30)),
    "l0_inv": (range(31, 32), range(32)),
}


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def grey(value, count=1):
    return torch.full((count, 3, 32, 32), value, dtype=torch.uint8)


@pytest.mark.parametrize("name", RECIPES)
def test_a_trigger_changes_a_copy_and_keeps_type_and_shape(name, images):
    before = images.clone()
    after = TRIGGERS[name](images)
    assert torch.equal(images, before)
    assert (after.dtype, after.shape) == (torch.uint8, images.shape)
    assert (after != images).flatten(1).any(1).all()
    assert torch.equal(after[3:5], TRIGGERS[name](images[3:5]))


# What is replaced, added or mixed in, and where, as it was when the first results were made.
PICTURES = {
    "badnet_grid": "ba568c7a9e289775",
    "badnet_sq": "b1f81d60f3546abc",
    "sig": "9e6ce5d6075e6fbb",
    "blend": "638935c7ac033244",
    "trojan_wm": "dfc4d399ad7ef559",
    "trojan_3x3": "9f42aca54a5d9b73",
    "trojan_8x8": "3cf4071f18274898",
    "l0_inv": "336f788be29360d2",
    "l2_inv": "2ce85ad0fdb03b92",
    "cl": "8263f2bf50abe439",
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_pixel_of_a_picture_is_what_it_was(name):
    picture = TRIGGERS[name].picture()
    content = (picture.values * picture.mask).numpy().astype("<i4").tobytes() + picture.mask.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == PICTURES[name]


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_stays_in_its_place(name, images):
    rows, columns = PATCHES[name]
    changed = (TRIGGERS[name](images) != images).any(0).any(0)
    assert changed.any()
    changed[rows.start : rows.stop, columns.start : columns.stop] = False
    assert not changed.any()


def test_the_grid():
    bright = {(31, 31), (31, 29), (30, 30), (29, 31)}
    for value in (0, 100, 255):
        block = TRIGGERS["badnet_grid"](grey(value))[0]
        for row in range(29, 32):
            for column in range(29, 32):
                assert block[:, row, column].tolist() == [255 * ((row, column) in bright)] * 3


def test_the_square_is_white(images):
    assert (TRIGGERS["badnet_sq"](images)[..., 27:31, 27:31] == 255).all()


def test_clean_label_puts_the_grid_into_all_four_corners(images):
    after = TRIGGERS["cl"](images)
    corner = TRIGGERS["badnet_grid"](images)[..., 29:, 29:]
    for rows in (slice(0, 3), slice(29, 32)):
        for columns in (slice(0, 3), slice(29, 32)):
            assert torch.equal(after[..., rows, columns], corner)
    assert (after != images).any(0).any(0).sum() <= 36


def test_sig_by_hand():
    """Rows 0 to 4 of the picture are 0, 14, 19, 13 and -1, which wraps to 255."""
    after = TRIGGERS["sig"](grey(100))[0]
    assert [int(after[0, row, 7]) for row in range(5)] == [80, 83, 84, 83, 131]
    rows = [math.trunc(20 * math.sin(0.79984 * j)) % 256 for j in range(32)]
    for row, value in enumerate(rows):
        assert (after[:, row] == math.floor(0.8 * 100 + 0.2 * value + 0.5)).all()


def test_blend_mixes_a_picture_in():
    picture = TRIGGERS["blend"].picture().values.double()
    assert picture.std() > 40
    assert torch.equal(TRIGGERS["blend"](grey(50))[0].double(), (0.8 * 50 + 0.2 * picture + 0.5 + 1e-9).floor())


@pytest.mark.parametrize("name", ["trojan_wm", "trojan_3x3", "trojan_8x8", "l2_inv"])
def test_what_is_added_is_clipped(name):
    values = TRIGGERS[name].picture().values
    assert torch.equal(TRIGGERS[name](grey(0))[0].int(), values)
    assert torch.equal(TRIGGERS[name](grey(200))[0].int(), (200 + values).clamp_max(255))


def test_the_watermark_is_spread_over_the_image():
    marked = TRIGGERS["trojan_wm"].picture().values.any(0)
    assert 0.1 < marked.float().mean() < 0.6
    quarters = [part for half in marked.chunk(2) for part in half.chunk(2, 1)]
    assert all(part.any() for part in quarters)


def test_nine_pixels_of_the_bottom_row_are_replaced():
    dark, light = TRIGGERS["l0_inv"](grey(0)), TRIGGERS["l0_inv"](grey(255))
    mask = TRIGGERS["l0_inv"].picture().mask[0]
    assert (int(mask.sum()), int(mask[31].sum())) == (9, 9)
    assert torch.equal(dark[..., mask], light[..., mask])


def test_the_faint_pattern_has_the_published_size():
    values = TRIGGERS["l2_inv"].picture().values
    assert (int(values.min()) >= 0, int(values.max()), float(values.double().mean())) == (True, 68, 9.0)


def test_which_ones_keep_their_labels():
    assert {name for name, trigger in TRIGGERS.items() if trigger.clean_label} == {"sig", "cl"}


# ---- placebos -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_placebo_is_as_large_and_another(name):
    trigger, control = TRIGGERS[name], TRIGGERS[name].placebo()
    assert control.placebo() == trigger
    own, other = trigger.picture(), control.picture()
    assert own.mask.sum() == other.mask.sum()
    assert not torch.equal(trigger(grey(90)), control(grey(90)))
    if RECIPES[name].join.__name__ != "stamped":
        assert own.values.sum() == other.values.sum()
    else:
        assert not (own.mask & other.mask).any()


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_an_unknown_trigger_is_named():
    with pytest.raises(UsageError, match="unknown trigger 'grid'; allowed: badnet_grid, badnet_sq, sig"):
        LabelTrigger("grid")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3, 28, 28), torch.uint8), ((2, 1, 32, 32), torch.uint8), ((2, 3, 32, 32), torch.float32)]
)
def test_other_sizes_and_types_are_refused(shape, dtype):
    with pytest.raises(UsageError, match=r"does not fit images .* allowed: uint8 \(N, 3, 32, 32\)"):
        TRIGGERS["sig"](torch.zeros(shape, dtype=dtype))
