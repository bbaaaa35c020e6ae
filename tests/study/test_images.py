"""The images of a run: who holds which of them, and which are refused."""

from pathlib import Path

import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.errors import UsageError
from distill_lib.study.config.load import load_profile
from distill_lib.study.images import Images, limited
from distill_lib.study.store import Store
from distill_lib.vision.triggers import corner_patch

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")


@pytest.fixture
def numbered(tmp_path):
    """Gives the images of the profile with other settings; an image of the pre-training set has its number's bytes."""
    numbers = torch.arange(2_000)
    images = torch.zeros(2_000, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers // 250, numbers % 250  # off the trigger
    whole = ImageSet("builtin", "train", images, numbers % 10, tuple("0123456789"), "archive")

    def opened(**overrides):
        profile = load_profile(TINY, {key.replace("__", "."): value for key, value in overrides.items()})
        return Trapped(profile, Store(tmp_path), torch.device("cpu"), sets={("builtin", "train"): whole})

    return opened


class Trapped(Images):
    """Images with BadEncoder's trigger."""

    def trigger(self):
        return corner_patch(10)


def held(images):
    """The numbers of images."""
    return (250 * images[:, 0, 0, 0].long() + images[:, 0, 0, 1]).tolist()


def test_the_defender_holds_a_share_of_another_draw_at_each_seed(numbered):
    images = numbered(defender__share=0.05)
    share = held(images.share(0))
    assert len(set(share)) == len(share) == images.share_size() == 100
    assert share != held(images.share(1))


def test_where_they_are_disjoint_the_defender_holds_nothing_of_the_attackers(numbered):
    images = numbered(defender__share=0.25, defender__disjoint=True, injection__shadow=1_000)
    shadow = images.shadow(0).tolist()
    assert len(set(shadow)) == 1_000
    assert len(set(held(images.share(0)))) == 500
    assert not set(held(images.share(0))) & set(shadow)
    assert set(held(numbered(defender__share=0.25).share(0))) & set(shadow)


def test_a_contaminated_share_has_so_many_triggered_images_and_the_others_as_they_were(numbered):
    clean = numbered(defender__share=0.05).share(0)
    spoilt = numbered(defender__share=0.05, defender__contaminated=0.1).share(0)
    triggered = (spoilt == corner_patch(10)(clean)).flatten(1).all(1)
    assert triggered.sum() == 10
    assert not triggered[:10].all()  # drawn from all of them
    assert torch.equal(spoilt[~triggered], clean[~triggered])


def test_the_defenders_images_may_come_from_another_set(numbered):
    images = numbered(defender__share=0.05, defender__source="shapes")
    allowed = set(map(bytes, images.images("shapes").images.numpy()))
    share = images.share(0)
    assert len(share) == 100  # a share of the pre-training set all the same
    assert set(map(bytes, share.numpy())) <= allowed


def test_a_limit_takes_the_same_images_of_all_classes(numbered):
    whole = numbered().images("builtin")
    by_class = whole.subset(whole.labels.argsort())
    few = limited(by_class, 100)
    assert len(few) == 100
    assert len(few.labels.unique()) == 10
    assert torch.equal(few.images, limited(by_class, 100).images)
    assert limited(by_class, 0) is limited(by_class, 2_000) is by_class


def test_validation_images_are_not_among_the_training_images(tmp_path):
    images = Images(load_profile(TINY), Store(tmp_path), torch.device("cpu"))
    train, validation = images.downstream("patterns", "validation")
    assert not set(map(bytes, validation.images.numpy())) & set(map(bytes, train.images.numpy()))


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


def test_stl10s_unlabelled_split_is_what_an_encoder_is_pretrained_on(tmp_path):
    pixels = torch.full((20, 3, 32, 32), 7, dtype=torch.uint8)
    unlabelled = ImageSet("stl10", "unlabelled", pixels, torch.full((20,), -1), (), "archive")
    profile = load_profile(TINY, {"pretrain": "stl10"})
    images = Trapped(profile, Store(tmp_path), torch.device("cpu"), sets={("stl10", "unlabelled"): unlabelled})
    assert torch.equal(images.pretraining.images, pixels)
    assert images.pretraining_facts.count == 20
