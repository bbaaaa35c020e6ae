"""npz archives in BadEncoder's layout: `<root>/<name>/{train,test,unlabeled}.npz` with `x` and `y`."""

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from distill_lib.data.imageset import ImageSet
from distill_lib.data.labels import CLASS_NAMES
from distill_lib.errors import UsageError

FILES = {"train": ("train.npz",), "test": ("test.npz",), "unlabelled": ("unlabeled.npz", "unlabelled.npz")}
MOST_CLASSES = 100_000  # a label above this is a broken file, not a class
_REMEDY = "replace the file (it must be an npz with x, uint8 (N, H, W, 3), and y, integers (N,))"
_BROKEN = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError)
_BROKEN += (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)


def has_archives(root: Path, name: str) -> bool:
    """Whether `<root>/<name>` holds any of the splits (torchvision keeps its own files in such folders too)."""
    return any((root / name / file).exists() for files in FILES.values() for file in files)


def read_archive(root: Path, name: str, split: str) -> ImageSet:
    """Read one split as it is stored: no resizing.

    Args:
        root: The data folder.
        name: Folder in it.
        split: "train", "test" or "unlabelled" (`y` is not read there).

    Returns:
        The set; `track` of the file, where there is one, becomes `groups`.

    Raises:
        UsageError: If the file is missing, broken or holds something else than labelled images.
    """
    path = _find(root / name, split)
    images = _images(path)
    if split == "unlabelled":
        labels, classes, groups = np.full(len(images), -1), (), None
    else:
        labels, groups = _labels(path), _column(path, "track", optional=True)
        classes = _classes(path, name, split, labels)
    for what, values in (("y", labels), ("track", groups)):
        if values is not None and len(values) != len(images):
            raise _wrong(path, f"x holds {len(images)} images, {what} {len(values)} values")
    return ImageSet(
        name=name,
        split=split,
        images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        labels=torch.from_numpy(labels),
        classes=classes,
        source="archive",
        groups=None if groups is None else torch.from_numpy(groups),
    )


def _find(folder: Path, split: str) -> Path:
    paths = [folder / file for file in FILES[split]]
    for path in paths:
        if path.exists():
            return path
    raise UsageError(f"no file {paths[0]}; put the {split} images there, or move {folder} away to use another source")


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} is no usable image archive: {what}; {_REMEDY}")


def _read(path: Path, key: str) -> np.ndarray | None:
    """One array of the npz, None when the file has no such key."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key] if key in archive.files else None
    except (AttributeError, TypeError):  # a bare .npy under the name of an npz loads as an array
        raise _wrong(path, "it holds a single array, not an npz") from None
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:120]
        raise _wrong(path, f"it cannot be read ({type(error).__name__}: {reason})") from None


def _images(path: Path) -> np.ndarray:
    """`x`, checked: uint8 (N, H, W, 3), at least one image."""
    images = _read(path, "x")
    if images is None:
        raise _wrong(path, "it holds no array x")
    if images.dtype != np.uint8:
        raise _wrong(path, f"x is {images.dtype}, not uint8")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise _wrong(path, f"x has the shape {images.shape}, not (N, H, W, 3)")
    if len(images) == 0:
        raise _wrong(path, "it is empty")
    return images


def _column(path: Path, key: str, optional: bool = False) -> np.ndarray | None:
    """A column of integers, (N,) or (N, 1), as int64 (N,)."""
    values = _read(path, key)
    if values is None:
        if optional:
            return None
        raise _wrong(path, f"it holds no array {key}")
    if not np.issubdtype(values.dtype, np.integer):
        raise _wrong(path, f"{key} is {values.dtype}, not integers")
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise _wrong(path, f"{key} has the shape {values.shape}, not (N,) or (N, 1)")
    return values.reshape(-1).astype(np.int64)


def _labels(path: Path) -> np.ndarray:
    """`y`, checked: no negative label, no absurd one, at least two classes."""
    labels = _column(path, "y")
    if len(labels) == 0:
        raise _wrong(path, "it is empty")
    if labels.min() < 0:
        raise _wrong(path, f"y holds the negative label {labels.min()}")
    if labels.max() >= MOST_CLASSES:
        raise _wrong(path, f"y holds the label {labels.max()}, over the {MOST_CLASSES} classes allowed")
    if labels.min() == labels.max():
        raise _wrong(path, f"all images are of one class ({labels[0]}), and a classifier needs two")
    return labels


def _classes(path: Path, name: str, split: str, labels: np.ndarray) -> tuple[str, ...]:
    """Class names: known ones, else the numbers up to the training split's largest label."""
    names = CLASS_NAMES.get(name)
    if names is None:
        training = path.with_name(FILES["train"][0])
        largest = _labels(training).max() if split == "test" and training.exists() else labels.max()
        names = tuple(map(str, range(int(largest) + 1)))
    if labels.max() >= len(names):
        raise _wrong(
            path, f"y holds the label {labels.max()}, but {name!r} has {len(names)} classes (0 to {len(names) - 1})"
        )
    return names
