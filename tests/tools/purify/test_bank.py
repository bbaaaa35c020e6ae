import pytest
import torch

from distill_lib.tools.purify.bank import bank
from distill_lib.vision.triggers import corner_patch


@pytest.mark.parametrize("size", [16, 32, 33, 50, 64, 224])
def test_every_trigger_fits_and_changes_every_image(size):
    images = torch.full((3, 3, size, size), 100, dtype=torch.uint8)
    for name, trigger in bank(size).items():
        changed = trigger(images)
        assert changed.shape == images.shape, name
        assert (changed != images).flatten(1).any(1).all(), name


def test_badencoders_trigger_is_among_them():
    assert bank(32)["large white square"] == corner_patch(10, 32)


def test_the_supervised_attacks_are_there_at_their_own_size():
    assert len(bank(32)) == len(bank(64)) + 10
    assert "supervised attack badnet_grid" in bank(32)


def test_ctrls_pattern_is_as_strong_at_any_size():
    def strength(size):
        return float(bank(size)["CTRL, high frequencies, 100"].pattern(size, size).abs().max())

    assert strength(32) == pytest.approx(strength(64))
    assert strength(48) == pytest.approx(strength(32), rel=0.3)
