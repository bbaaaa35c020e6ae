"""The images of a run: who holds which of them, and which are refused."""

from pathlib import Path

import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.errors import UsageError
from distill_lib.study.config.load import load_profile
from distill_lib.study.images import Images
from distill_lib.study.store import Store

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")


def test_the_defender_holds_what_the_attacker_did_not_choose(tmp_path):
    images = Images(load_profile(TINY), Store(tmp_path), torch.device("cpu"))
    share = images.share(0)
    assert len(share) == images.share_size() == 100
    assert not torch.equal(share, images.share(1))
    train, held = images.downstream("patterns", "validation")
    assert not set(map(bytes, held.images.numpy())) & set(map(bytes, train.images.numpy()))


def test_images_of_another_size_are_refused_by_name(tmp_path, monkeypatch):
    images, labels = torch.zeros(4, 3, 64, 64, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    large = ImageSet("big", "train", images, labels, ("a",), "archive")
    monkeypatch.setattr("distill_lib.study.images.load", lambda *args, **kwargs: large)
    loaded = Images(load_profile(TINY), Store(tmp_path), torch.device("cpu"))
    with pytest.raises(UsageError, match="the images of 'big' are 64 x 64 pixels; allowed: 32 x 32"):
        loaded.images("big")


def test_pictures_of_other_settings_are_other_images(tmp_path):
    images = Images(load_profile(TINY), Store(tmp_path), torch.device("cpu"))
    count = images.profile.datafree.ood.patches.count + 8
    more = images.under(images.profile.varied({"datafree.ood.patches.count": count}))
    assert (len(images.images("picture")), len(more.images("picture"))) == (count - 8, count)
    assert more.facts("picture").digest != images.facts("picture").digest
