"""Poisoned pre-training data: how many images, which ones, where, and nothing else."""

import pytest
import torch

from distill_lib.attacks.poisoned_data import PoisonedDataConfig, class_rows, draw_rows, poison, target_of
from distill_lib.errors import UsageError
from distill_lib.vision.triggers import Patch, corner_patch, placebo


@pytest.fixture(scope="module")
def images():
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, (60, 3, 32, 32), generator=source, dtype=torch.uint8)  # never white


@pytest.fixture(scope="module")
def labels():
    """Classes 0, 1, 2 in turn: 20 images each."""
    return torch.arange(60) % 3


def changed(before, after):
    return (before != after).flatten(1).any(1).nonzero().squeeze(1)


# ---- what is poisoned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "count"), [(0.5, 10), (1.0, 20), (0.26, 5), (0.001, 1)])
def test_so_many_images_of_the_class_and_no_others(images, labels, rate, count):
    config = PoisonedDataConfig(poisoned_class=1, rate=rate)
    kept = images.clone(), labels.clone()
    poisoned, rows = poison(images, labels, config, seed=0)
    assert len(rows) == count
    assert (labels[rows] == 1).all()
    assert torch.equal(changed(images, poisoned), rows)
    assert torch.equal(images, kept[0])  # the set handed in stays clean
    assert torch.equal(labels, kept[1])
    assert (poisoned.dtype, poisoned.shape) == (torch.uint8, images.shape)


def test_each_poisoned_image_has_one_whole_patch_and_its_other_pixels(images, labels):
    config = PoisonedDataConfig(2, 1.0, size=5, colour=(255, 0, 255))
    poisoned, rows = poison(images, labels, config, seed=4)
    places = set()
    for row in rows.tolist():
        difference = (poisoned[row] != images[row]).any(0)
        where = difference.nonzero()
        (top, left), (bottom, right) = where.amin(0).tolist(), where.amax(0).tolist()
        assert (bottom - top, right - left) == (4, 4)
        patch = poisoned[row, :, top : top + 5, left : left + 5]
        assert torch.equal(patch, torch.tensor([255, 0, 255], dtype=torch.uint8).view(3, 1, 1).expand(3, 5, 5))
        places.add((top, left))
    assert len(places) > 15  # 20 images, 784 places


def test_the_seed_decides_images_and_places(images, labels):
    config = PoisonedDataConfig()
    first, again, other = (poison(images, labels, config, seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.rows, other.rows)
    shared = [row for row in first.rows.tolist() if row in other.rows.tolist()]
    assert shared
    assert not torch.equal(first.images[shared], other.images[shared])


def test_the_literatures_settings_are_the_defaults():
    config = PoisonedDataConfig()
    assert (config.poisoned_class, config.rate, config.size) == (0, 0.5, 6)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, -0.5, 1.01, float("nan")])
def test_an_impossible_rate_is_named(rate):
    with pytest.raises(UsageError, match=f"a poison rate of {rate} is not allowed; it must be above 0 and at most 1"):
        PoisonedDataConfig(rate=rate)


def test_an_absent_class_is_named(images, labels):
    with pytest.raises(UsageError, match="class 7 to poison has no image; allowed: 0, 1, 2"):
        poison(images, labels, PoisonedDataConfig(7), 0)


@pytest.mark.parametrize("chosen", [0, -1])
def test_unlabelled_images_cannot_be_poisoned_by_class(images, chosen):
    labels = torch.full((60,), -1)
    with pytest.raises(UsageError, match=f"class {chosen} to poison has no image; allowed: none, .* unlabelled"):
        poison(images, labels, PoisonedDataConfig(chosen), 0)


def test_a_patch_larger_than_the_image_is_named(images, labels):
    with pytest.raises(UsageError, match="a trigger of 40 pixels does not fit an image of 32 x 32; allowed: 1 to 32"):
        poison(images, labels, PoisonedDataConfig(size=40), 0)
    with pytest.raises(UsageError, match="a patch of 0 pixels is impossible"):
        PoisonedDataConfig(size=0)


def test_an_unknown_place_is_named():
    with pytest.raises(UsageError, match="unknown place of the test trigger 'centre'; allowed: corner, random"):
        PoisonedDataConfig(test_place="centre")


# ---- the trigger at test time ---------------------------------------------------------------------------------------


def test_at_test_time_the_same_patch_sits_in_badencoders_corner():
    trigger = PoisonedDataConfig(size=6, colour=(9, 8, 7)).trigger()
    assert trigger == Patch(6, 25, 25, (9, 8, 7))
    assert PoisonedDataConfig(size=10).trigger() == corner_patch(10)


def test_or_at_random_places_that_are_not_those_of_the_poisoned_images(images, labels):
    config = PoisonedDataConfig(rate=1.0, test_place="random")
    poisoned, rows = poison(images, labels, config, seed=5)
    stamped = config.trigger(seed=5)(images[rows])
    assert not any(torch.equal(a, b) for a, b in zip(poisoned[rows], stamped, strict=True))
    assert ((stamped != images[rows]).any(1).flatten(1).sum(1) == 36).all()
    assert placebo(config.trigger()).size == 6


# ---- its target -----------------------------------------------------------------------------------------------------


def test_the_target_is_the_class_most_triggered_images_fall_into():
    assert target_of(torch.tensor([3, 1, 3, 0, 3, 1])) == 3
    assert target_of([4, 2, 2, 4, 1]) == 2  # among equals the lowest
    with pytest.raises(UsageError, match="0 predictions name no target class"):
        target_of(torch.empty(0, dtype=torch.int64))


def test_rows_are_drawn_from_the_candidates_alone(labels):
    candidates = class_rows(labels, 2)
    assert torch.equal(candidates, torch.arange(2, 60, 3))
    rows = draw_rows(candidates, 7, seed=0)
    assert len(rows.unique()) == 7
    assert torch.isin(rows, candidates).all()
    assert torch.equal(rows, rows.sort().values)
