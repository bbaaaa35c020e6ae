"""The user's clean images: a folder of png and jpg files, of any sizes, read with suspicion."""

import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from distill_lib.data.splits import FEWEST
from distill_lib.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # no other parser of PIL sees a stranger's bytes
MOST_PIXELS = 64_000_000  # of one image, as its own header says before anything is unpacked
LARGEST_FILE = 2**27  # bytes
MOST_BYTES = 2**30  # of all images in memory, of which there are copies for a moment
NAMED = 5  # unreadable files named in a message
HELD_SHARE, FEWEST_HELD, MOST_HELD = 8, 4, 256  # one image in eight is held out of the training


@dataclass(frozen=True)
class CleanImages:
    """What a folder holds.

    Attributes:
        images: uint8 (N, 3, S, S).
        unreadable: Names of the files that are no readable images.
        left_out: How many files were not read, as memory has an end.
        sha256: Of the pixels, hex.
    """

    images: Tensor
    unreadable: tuple[str, ...]
    left_out: int
    sha256: str

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Images to train on, and some that no training sees, on which before and after are compared."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        held = min(MOST_HELD, max(FEWEST_HELD, len(order) // HELD_SHARE))
        return self.images[order[held:]], self.images[order[:held]]


def check_folder(folder: Path) -> None:
    """See that there is a folder.

    Raises:
        UsageError: If there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"--images {str(folder)!r} is not a folder; allowed: one with {FEWEST} images or more")


def read_folder(
    folder: Path, size: int, seed: int, report: Callable[[int, int], None] = lambda done, files: None
) -> CleanImages:
    """Read the images of a folder and of those in it; each is cut to a square around its middle and resized.

    Args:
        folder: Holds png and jpg files; others are passed over.
        size: Side of the squares in pixels.
        seed: Of the choice, where there are more images than memory should hold.
        report: Told how many files of all are read.

    Raises:
        UsageError: If there are fewer than 16 readable images.
    """
    check_folder(folder)
    files = sorted(_files(folder))
    chosen = _chosen(files, MOST_BYTES // (3 * size * size), seed)
    images, unreadable = [], []
    for number, path in enumerate(chosen, 1):
        try:
            images.append(picture(path, size))
        except Exception:  # PIL's parsers fail on damaged files in any way they like
            unreadable.append(str(path.relative_to(folder)))
        report(number, len(chosen))
    if len(images) < FEWEST:
        raise UsageError(f"--images {str(folder)!r} has {len(images)} readable images{_named(unreadable)}; "
                         f"allowed: {FEWEST} or more, {', '.join(SUFFIXES)}")  # fmt: skip
    stack = np.stack(images)
    sha256 = hashlib.sha256(stack.data).hexdigest()
    tensor = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
    return CleanImages(tensor, tuple(unreadable), len(files) - len(chosen), sha256)


def unreadable_words(found: CleanImages) -> str:
    """A sentence on the files that were not used; empty where all were."""
    words = [f"{len(found.unreadable)} files are no readable images{_named(found.unreadable)}"] * bool(found.unreadable)
    words += [f"{found.left_out} files were left out, to save memory"] * bool(found.left_out)
    return "; ".join(words)


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):  # links to folders are not followed: they may go in circles
        yield from (Path(place, name) for name in names if name.lower().endswith(SUFFIXES))


def _chosen(files: list[Path], most: int, seed: int) -> list[Path]:
    if len(files) <= most:
        return files
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))[:most]
    return [files[row] for row in order.sort().values.tolist()]


def picture(path: Path, size: int) -> np.ndarray:
    """Pixels uint8 (S, S, 3) of one file.

    Raises:
        Exception: Of any kind, if it is no image or an unreasonable one.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_FILE:
        raise ValueError("no file, or too large a one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the next lines are stricter
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError("too many pixels")
            # Cut before it is resized: a strip of one pixel's height is not blown up to its whole length.
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


def _named(names) -> str:
    if not names:
        return ""
    return f" ({', '.join(map(repr, names[:NAMED]))}{', ...' * (len(names) > NAMED)})"
