"""Random parts of an image set: validation images, and the few clean images that a defender holds."""

import numpy as np
import torch

from distill_lib.data.imageset import ImageSet
from distill_lib.errors import UsageError

FEWEST = 16  # fewer images than this make no batch to contrast
_HOLDOUT, _CLEAN = 1, 2  # separate random streams: a validation part tells nothing about a clean share


def holdout(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split off validation images, by whole groups where there are groups.

    Images of one group (a GTSRB track, renderings of one digit) are near-duplicates: divided by image,
    the validation accuracy would be that of images seen in training.

    Args:
        images: The set to split.
        share: Share of the images that goes to validation, over 0 and under 1; with groups the whole
            groups come as near to it as their sizes allow.
        seed: The choice.

    Returns:
        (training, validation), each in the original order.

    Raises:
        UsageError: If the share is out of range or either side would be empty.
    """
    if not 0 < share < 1:
        raise UsageError(f"a validation share of {share} is not allowed; it must be over 0 and under 1")
    groups = torch.arange(len(images)) if images.groups is None else images.groups.cpu()
    held = _draw_groups(groups.numpy(), share, _stream(seed, _HOLDOUT))
    if held.all() or not held.any():
        raise UsageError(
            f"a validation share of {share} leaves nothing on one side of {images.name!r} "
            f"({len(images)} images in {len(np.unique(groups.numpy()))} groups); choose another share"
        )
    return images.subset(torch.from_numpy(~held)), images.subset(torch.from_numpy(held))


def clean_share(images: ImageSet, share: float, seed: int) -> ImageSet:
    """The defender's clean images: a random subset of the pre-training set.

    The original release takes the first images of the file; here every seed draws its own.

    Args:
        images: The pre-training set.
        share: Over 0, at most 1.
        seed: The choice.

    Returns:
        round(share * N) images in their original order.

    Raises:
        UsageError: If the share is out of range or gives fewer than 16 images.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a clean share of {share} is not allowed; it must be over 0 and at most 1")
    count = round(share * len(images))
    if count < FEWEST:
        raise UsageError(
            f"a clean share of {share} gives {count} of the {len(images)} images of {images.name!r}; "
            f"at least {FEWEST} are needed"
        )
    order = _stream(seed, _CLEAN).permutation(len(images))
    return images.subset(torch.from_numpy(np.sort(order[:count])))


def _stream(seed: int, purpose: int) -> np.random.Generator:
    if seed < 0:
        raise UsageError(f"a seed of {seed} is not allowed; it must be 0 or more")
    return np.random.default_rng([purpose, seed])


def _draw_groups(groups: np.ndarray, share: float, stream: np.random.Generator) -> np.ndarray:
    """Mask (N,) of whole groups whose total size is as near to `share` as a random order gives."""
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = stream.permutation(len(names))
    reached = np.concatenate([[0], np.cumsum(sizes[order])])
    count = int(np.argmin(np.abs(reached - share * len(groups))))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[:count]] = True
    return chosen[member]
