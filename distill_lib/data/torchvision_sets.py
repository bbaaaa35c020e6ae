"""torchvision's own data sets as 32 x 32 image sets, downloaded on first use."""

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch.nn import functional

from distill_lib.data.imageset import ImageSet
from distill_lib.data.labels import CLASS_NAMES
from distill_lib.errors import UsageError, choose

SIZE = 32
_CHUNK = 1000
# OSError covers the network (URLError) and unreadable pictures, RuntimeError torchvision's own checks.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, EOFError, AssertionError, struct.error)
_BROKEN += (zipfile.BadZipFile, tarfile.TarError, pickle.UnpicklingError)


class Arrays(NamedTuple):
    """images uint8 (N, 3, 32, 32), labels (N,), groups (N,) or None."""

    images: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor | None = None


def _int64(labels: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(labels).astype(np.int64))


def _cifar(dataset: Any) -> Arrays:
    return Arrays(torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), _int64(dataset.targets))


def _svhn(dataset: Any) -> Arrays:
    return Arrays(torch.from_numpy(np.ascontiguousarray(dataset.data)), _int64(dataset.labels))


def _mnist(dataset: Any) -> Arrays:
    padded = functional.pad(torch.as_tensor(dataset.data), (2, 2, 2, 2))
    return Arrays(padded[:, None].expand(-1, 3, -1, -1).contiguous(), _int64(dataset.targets))


def _stl10(dataset: Any) -> Arrays:
    """96 to 32 pixels, antialiased; in chunks, since the unlabelled split is 2.8 GB before."""
    chunks = range(0, len(dataset.data), _CHUNK)
    images = torch.cat([resize(dataset.data[i : i + _CHUNK], antialias=True) for i in chunks])
    return Arrays(images, _int64(dataset.labels))


def _gtsrb(dataset: Any) -> Arrays:
    """Each picture has its own size; the file name `<track>_<image>.ppm` names its track."""
    pictures, labels, tracks = [], [], []
    for (path, _), (picture, label) in zip(dataset._samples, dataset, strict=True):
        pixels = np.asarray(picture).transpose(2, 0, 1)[None]
        pictures.append(resize(pixels, antialias=False))
        labels.append(label)
        track = Path(path).stem.split("_")[0]
        tracks.append(label * 1000 + int(track))
    groups = _int64(tracks) if dataset._split == "train" else None  # test pictures are not in tracks
    return Arrays(torch.cat(pictures), _int64(labels), groups)


def resize(images: np.ndarray, antialias: bool) -> torch.Tensor:
    """Bilinear, (B, 3, H, W) uint8 to (B, 3, 32, 32) uint8, rounded."""
    pixels = torch.from_numpy(np.array(images)).float()
    small = functional.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", align_corners=False, antialias=antialias)
    return small.round().clamp(0, 255).to(torch.uint8)


class Recipe(NamedTuple):
    """How torchvision's class is called for a split, and its content turned into arrays."""

    class_name: str
    splits: dict[str, dict[str, Any]]
    convert: Callable[[Any], Arrays]


_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}

RECIPES: dict[str, Recipe] = {
    "cifar10": Recipe("CIFAR10", _BY_FLAG, _cifar),
    "cifar100": Recipe("CIFAR100", _BY_FLAG, _cifar),
    "stl10": Recipe("STL10", _BY_NAME | {"unlabelled": {"split": "unlabeled"}}, _stl10),
    "svhn": Recipe("SVHN", _BY_NAME, _svhn),
    "gtsrb": Recipe("GTSRB", _BY_NAME, _gtsrb),
    "mnist": Recipe("MNIST", _BY_FLAG, _mnist),
}


def read_torchvision(name: str, split: str, root: Path, download: bool) -> ImageSet:
    """Read a split through torchvision, downloading it when it is not there yet.

    Args:
        name: One of `RECIPES`.
        split: "train", "test", and "unlabelled" for stl10.
        root: torchvision's root folder.
        download: Whether the network may be used.

    Raises:
        UsageError: If the split does not exist, the files are broken, or there is no network.
    """
    from torchvision import datasets  # slow to import, and not needed for any other source

    recipe = choose("data set", name, RECIPES)
    options = choose(f"split of {name!r}", split, recipe.splits)
    arrays = _found(datasets, recipe, options, root)
    if arrays is None:
        arrays = _downloaded(datasets, name, recipe, options, root, download)
    classes = () if split == "unlabelled" else CLASS_NAMES[name]
    return ImageSet(name, split, arrays.images, arrays.labels, classes, "torchvision", arrays.groups)


def _found(datasets: ModuleType, recipe: Recipe, options: dict[str, Any], root: Path) -> Arrays | None:
    """The split if its files are there and whole; nothing is written, so a read-only folder will do."""
    try:
        return recipe.convert(getattr(datasets, recipe.class_name)(root=str(root), download=False, **options))
    except _BROKEN:
        return None


def _downloaded(
    datasets: ModuleType, name: str, recipe: Recipe, options: dict[str, Any], root: Path, download: bool
) -> Arrays:
    remedy = f"or put train.npz and test.npz under <data folder>/{name}"
    if not download:
        raise UsageError(f"no usable files of {name!r} in {root} and downloading is off; allow the download, {remedy}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):  # two processes would write the same files
            return recipe.convert(getattr(datasets, recipe.class_name)(root=str(root), download=True, **options))
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"could not get {name!r} into {root} ({type(error).__name__}: {reason}); "
            f"check the network and that folder, remove incomplete files of it, {remedy}"
        ) from None
