import hashlib

import numpy as np
import pytest
import torch

from distill_lib.data import builtin, load
from distill_lib.data.drawing import BRIGHTEST
from distill_lib.errors import UsageError

# First 16 hex digits of a split's digest. They hold on every platform; with other pixels, raise `VERSION` too.
DIGESTS = {
    ("builtin", "train"): "e767aafd409d4dab",
    ("builtin", "test"): "8c7e01199afbfc0e",
    ("shapes", "train"): "d6b1e1d17a3fea6d",
    ("shapes", "test"): "5e22f23a63aa6e35",
    ("patterns", "train"): "6f37024a5b00dfb8",
    ("patterns", "test"): "4c54eb62ef15a490",
    ("digits", "train"): "fbe7f7f6f1d55a4c",
    ("digits", "test"): "8ffb6cc18843c600",
}
CLASSES = {"builtin": 16, "shapes": 8, "patterns": 10, "digits": 10}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_every_split_is_what_it_was(cache, name, split):
    images = load(name, split, cache_dir=cache)
    assert len(images) == builtin.SIZES[name][split]
    assert images.images.shape[1:] == (3, 32, 32)
    assert (images.images.dtype, images.source) == (torch.uint8, "builtin")
    assert images.digest[:16] == DIGESTS[name, split]


@pytest.mark.parametrize("name", CLASSES)
def test_drawing_again_gives_the_same_bytes_as_the_cache(cache, name):
    assert load(name, "test").digest == load(name, "test", cache_dir=cache).digest


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_classes_are_balanced_and_named(cache, name, split):
    images = load(name, split, cache_dir=cache)
    counts = torch.bincount(images.labels, minlength=CLASSES[name])
    assert len(images.classes) == len(set(images.classes)) == len(counts) == CLASSES[name]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", CLASSES)
def test_no_image_occurs_twice(cache, name):
    seen = [
        hashlib.sha256(image.numpy().tobytes()).digest()
        for split in ("train", "test")
        for image in load(name, split, cache_dir=cache).images
    ]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_as_white_as_the_trigger(cache, name):
    assert load(name, cache_dir=cache).images.max() <= BRIGHTEST < 240


def test_no_handwritten_digit_is_in_both_splits(cache):
    train, test = (load("digits", split, cache_dir=cache) for split in ("train", "test"))
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    assert len(set(train.groups.tolist())) > 1000
    assert len(set(test.groups.tolist())) > 500


def test_digits_show_their_source(cache):
    """The label of each rendering is scikit-learn's label of its source."""
    from sklearn.datasets import load_digits

    images = load("digits", "test", cache_dir=cache)
    assert np.array_equal(load_digits().target[images.groups.numpy()], images.labels.numpy())


def test_the_cache_is_named_after_version_and_constants(cache, monkeypatch):
    before = builtin.cache_file("shapes", "test")
    assert before.startswith(f"shapes-test-v{builtin.VERSION}-")
    monkeypatch.setitem(builtin.LOOKS, "shapes", builtin.LOOKS["shapes"]._replace(noise=9))
    assert builtin.cache_file("shapes", "test") != before
    monkeypatch.setattr(builtin, "VERSION", 99)
    assert "-v99-" in builtin.cache_file("shapes", "test")


def test_a_broken_cache_is_drawn_again(tmp_path):
    path = tmp_path / builtin.cache_file("patterns", "test")
    path.write_bytes(b"half a file")
    images = load("patterns", "test", cache_dir=tmp_path)
    assert images.digest[:16] == DIGESTS["patterns", "test"]
    with np.load(path) as archive:
        assert archive["x"].shape == (1000, 3, 32, 32)


def test_unknown_builtin_set():
    with pytest.raises(UsageError, match="unknown built-in data set 'cubes'; allowed: builtin, shapes"):
        builtin.make_builtin("cubes", "train")
