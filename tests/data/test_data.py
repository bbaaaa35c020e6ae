"""`distill_lib.data.load`: which source answers, and the errors of the door itself."""

import numpy as np
import pytest
import torch

from distill_lib import data
from distill_lib.data import NAMES, load
from distill_lib.errors import UsageError


def test_names():
    assert NAMES[:4] == ("builtin", "shapes", "patterns", "digits")
    assert set(NAMES[4:]) == {"cifar10", "cifar100", "stl10", "svhn", "gtsrb", "mnist"}


def test_a_named_data_folder_must_exist_whatever_the_set(tmp_path):
    for name in ("shapes", "cifar10", "toy"):
        with pytest.raises(UsageError, match=r"data folder .*nowhere does not exist"):
            load(name, data_dir=tmp_path / "nowhere")


def test_a_file_is_no_data_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="does not exist"):
        load("cifar10", data_dir=tmp_path / "file")


@pytest.mark.parametrize("name", ["nosuch", "", "../toy", "/etc", ".", "a/b"])
def test_unknown_names_list_the_known_ones(tmp_path, name):
    (tmp_path / "toy").mkdir()
    np.savez(tmp_path / "toy" / "train.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=[0, 1])
    root = tmp_path / "inner"
    root.mkdir()
    for folder in (None, root):
        with pytest.raises(UsageError, match=r"unknown data set .*allowed: builtin, shapes, .*mnist"):
            load(name, data_dir=folder)


def test_unknown_split():
    with pytest.raises(UsageError, match="unknown split 'valid'; allowed: train, test, unlabelled"):
        load("shapes", "valid")


def test_builtin_sets_have_no_unlabelled_split():
    with pytest.raises(UsageError, match="unknown split of 'shapes' 'unlabelled'; allowed: train, test"):
        load("shapes", "unlabelled")


def test_archives_come_before_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "read_torchvision", lambda *arguments: arguments)
    assert load("cifar10", data_dir=tmp_path) == ("cifar10", "train", tmp_path, True)
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "train.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=[0, 1])
    assert load("cifar10", data_dir=tmp_path).source == "archive"


def test_where_torchvision_keeps_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "read_torchvision", lambda name, split, root, download: str(root))
    cache = tmp_path / "cache"
    assert load("svhn", data_dir=tmp_path, cache_dir=cache) == str(tmp_path)
    assert load("svhn", cache_dir=cache) == str(cache)
    assert load("svhn") == "data"


def test_builtin_names_are_made_here_even_beside_a_folder(tmp_path):
    (tmp_path / "digits").mkdir()
    np.savez(tmp_path / "digits" / "test.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=[0, 1])
    images = load("digits", "test", data_dir=tmp_path)
    assert (images.source, images.images.dtype) == ("builtin", torch.uint8)
