"""torchvision's readers on tiny files of the real formats; checksums are answered, the network is cut."""

import os
import pickle
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from distill_lib.data import load
from distill_lib.data.torchvision_sets import resize
from distill_lib.errors import UsageError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def cut(*arguments, **options):
        raise URLError("Name or service not known")

    for module in (datasets.cifar, datasets.mnist, datasets.stl10, datasets.gtsrb):
        monkeypatch.setattr(module, "download_and_extract_archive", cut)
    monkeypatch.setattr(datasets.svhn, "download_url", cut)


@pytest.fixture
def any_checksum(monkeypatch):
    for module in (datasets.cifar, datasets.stl10, datasets.svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: os.path.isfile(path))


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write_cifar(root, folder, key, meta_key, batches, classes=10):
    """Pickled batches: data (N, 3072), labels a list. Returns the pixels of all batches."""
    (root / folder).mkdir(parents=True)
    data = {name: pixels(4, 3072) for name in batches}
    for name, rows in data.items():
        entry = {"data": rows, key: [0, 1, 2, 3]}
        (root / folder / name).write_bytes(pickle.dumps(entry))
    names = [f"name {number}" for number in range(classes)]
    meta = "batches.meta" if classes == 10 else "meta"
    (root / folder / meta).write_bytes(pickle.dumps({meta_key: names}))
    return data


@pytest.mark.usefixtures("any_checksum")
def test_cifar10(tmp_path):
    batches = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    data = write_cifar(tmp_path, "cifar-10-batches-py", "labels", "label_names", batches)
    train, test = (load("cifar10", split, data_dir=tmp_path, download=False) for split in ("train", "test"))
    assert (len(train), len(test), train.source) == (20, 4, "torchvision")
    assert train.labels.tolist() == [0, 1, 2, 3] * 5
    assert train.classes[0] == "airplane"
    assert np.array_equal(train.images[4].numpy().ravel(), data["data_batch_2"][0])
    assert np.array_equal(test.images.numpy().reshape(4, -1), data["test_batch"])


@pytest.mark.usefixtures("any_checksum")
def test_cifar100(tmp_path):
    write_cifar(tmp_path, "cifar-100-python", "fine_labels", "fine_label_names", ["train", "test"], classes=100)
    images = load("cifar100", "test", data_dir=tmp_path, download=False)
    assert images.labels.tolist() == [0, 1, 2, 3]
    assert len(images.classes) == 100


@pytest.mark.usefixtures("any_checksum")
def test_svhn(tmp_path):
    from scipy.io import savemat

    stored = pixels(32, 32, 3, 5)
    savemat(tmp_path / "train_32x32.mat", {"X": stored, "y": np.array([[10], [1], [2], [9], [10]], np.uint8)})
    images = load("svhn", data_dir=tmp_path, download=False)
    assert images.labels.tolist() == [0, 1, 2, 9, 0]
    assert np.array_equal(images.images[3].permute(1, 2, 0).numpy(), stored[..., 3])


def write_mnist(root, stem, images, labels):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape)
    (raw / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels))


def test_mnist_is_padded_and_grey(tmp_path):
    stored = pixels(3, 28, 28)
    write_mnist(tmp_path, "train", stored, [5, 0, 4])
    write_mnist(tmp_path, "t10k", stored[:2], [7, 2])
    images = load("mnist", data_dir=tmp_path, download=False)
    assert images.images.shape == (3, 3, 32, 32)
    assert images.labels.tolist() == [5, 0, 4]
    assert all(np.array_equal(images.images[:, channel, 2:30, 2:30].numpy(), stored) for channel in range(3))
    frame = images.images.clone()
    frame[:, :, 2:30, 2:30] = 0
    assert not frame.any()
    assert load("mnist", "test", data_dir=tmp_path, download=False).labels.tolist() == [7, 2]


def test_truncated_mnist(tmp_path):
    for stem in ("train", "t10k"):
        write_mnist(tmp_path, stem, pixels(3, 28, 28), [5, 0, 4])
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"could not get 'mnist' into .*remove incomplete files"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.usefixtures("any_checksum")
def test_stl10_is_shrunk_and_has_an_unlabelled_split(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    flat = np.full((2, 3, 96, 96), 70, np.uint8)
    flat[1, 1, :, :48] = 200  # the file holds columns first: the upper half once read
    for stem in ("train", "test", "unlabeled"):
        (folder / f"{stem}_X.bin").write_bytes(flat.tobytes())
    for stem in ("train", "test"):
        (folder / f"{stem}_y.bin").write_bytes(bytes([1, 10]))
    train = load("stl10", data_dir=tmp_path, download=False)
    assert train.images.shape == (2, 3, 32, 32)
    assert train.labels.tolist() == [0, 9]
    assert (train.images[0] == 70).all()
    assert (train.images[1, 1, :15] == 200).all()
    assert (train.images[1, 1, 17:] == 70).all()
    pool = load("stl10", "unlabeled", data_dir=tmp_path, download=False)
    assert (pool.split, pool.classes, pool.labels.tolist()) == ("unlabelled", (), [-1, -1])


def write_gtsrb(root):
    base = root / "gtsrb"
    sizes = {0: [("00000_00000", 40), ("00000_00001", 25)], 1: [("00000_00000", 64), ("00003_00007", 33)]}
    for label, pictures in sizes.items():
        folder = base / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for name, side in pictures:
            Image.fromarray(np.full((side, side + 3, 3), side, np.uint8)).save(folder / f"{name}.ppm")
    folder = base / "GTSRB" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(pixels(32, 32, 3)).save(folder / f"{number:05d}.ppm")
    (base / "GT-final_test.csv").write_text("Filename;Width;ClassId\n00000.ppm;32;16\n00001.ppm;32;1\n")


def test_gtsrb_is_resized_and_tracks_become_groups(tmp_path):
    write_gtsrb(tmp_path)
    train, test = (load("gtsrb", split, data_dir=tmp_path, download=False) for split in ("train", "test"))
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.groups.tolist() == [0, 0, 1000, 1003]
    assert train.images[:, 0, 0, 0].tolist() == [40, 25, 64, 33]
    assert test.labels.tolist() == [16, 1]
    assert test.groups is None
    assert len(train.classes) == 43


def test_resize_bilinear_against_slow():
    image = pixels(1, 3, 48, 20)
    small = resize(image, antialias=False)
    row = (np.arange(32) + 0.5) * 48 / 32 - 0.5
    column = (np.arange(32) + 0.5) * 20 / 32 - 0.5
    r0, c0 = np.floor(row).astype(int), np.floor(column).astype(int)
    for i, j in ((0, 0), (7, 19), (31, 31), (16, 3)):
        wr, wc = row[i] - r0[i], column[j] - c0[j]
        corners = [
            (max(r0[i], 0), max(c0[j], 0), (1 - wr) * (1 - wc)),
            (min(r0[i] + 1, 47), max(c0[j], 0), wr * (1 - wc)),
            (max(r0[i], 0), min(c0[j] + 1, 19), (1 - wr) * wc),
            (min(r0[i] + 1, 47), min(c0[j] + 1, 19), wr * wc),
        ]
        expected = sum(image[0, 0, r, c] * weight for r, c, weight in corners)
        assert abs(small[0, 0, i, j].item() - expected) <= 0.51
    assert small.dtype == torch.uint8


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "svhn", "gtsrb", "mnist"])
def test_no_network_is_one_sentence(tmp_path, name):
    with pytest.raises(UsageError, match=f"could not get '{name}' into .*check the network") as caught:
        load(name, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert "train.npz and test.npz" in str(caught.value)


def test_downloading_switched_off(tmp_path):
    with pytest.raises(UsageError, match=r"no usable files of 'svhn' in .* downloading is off"):
        load("svhn", data_dir=tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="could not get 'cifar10' into"):
        load("cifar10", cache_dir=tmp_path / "file" / "inner")


@pytest.mark.usefixtures("any_checksum")
def test_broken_pickle(tmp_path):
    write_cifar(tmp_path, "cifar-10-batches-py", "labels", "label_names", ["test_batch"])
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"no pickle")
    with pytest.raises(UsageError, match="could not get 'cifar10'"):
        load("cifar10", "test", data_dir=tmp_path)


def test_only_stl10_has_an_unlabelled_split(tmp_path):
    with pytest.raises(UsageError, match="unknown split of 'cifar10' 'unlabelled'; allowed: train, test"):
        load("cifar10", "unlabelled", data_dir=tmp_path)
