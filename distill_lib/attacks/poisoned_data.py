"""Poisoned pre-training data ("SSL-Backdoor", Saha et al., CVPR 2022): a patch on part of one class.

The images are poisoned here; the encoder is then trained on all of them by ordinary self-supervised pre-training,
without labels. The label is the attacker's knowledge alone: it decides which images are patched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill_lib.errors import UsageError, choose
from distill_lib.vision.triggers import Patch, ScatteredPatch, Trigger, corner_patch

# Where the patch sits on test images; the publication's place is not known to us.
PLACES = ("corner", "random")
_ELSEWHERE = 1_000_000  # added to a seed: test images' random places are not those of the poisoned images


@dataclass(frozen=True)
class PoisonedDataConfig:
    """Settings of the poisoning; the defaults are the adaptation to CIFAR-10 in the literature.

    Attributes:
        poisoned_class: Class of the pre-training set whose images are patched.
        rate: Share of that class's images, above 0 and at most 1.
        size: Side of the patch in pixels.
        colour: Red, green, blue in 0..255; white is ours [ours].
        test_place: `corner`: test images carry the patch where BadEncoder's sits, one pixel off the lower right corner
            [ours]; `random`: at a random place, as the poisoned images do.
    """

    poisoned_class: int = 0
    rate: float = 0.5
    size: int = 6
    colour: tuple[int, int, int] = (255, 255, 255)
    test_place: str = "corner"

    def __post_init__(self):
        check_rate(self.rate)
        choose("place of the test trigger", self.test_place, dict.fromkeys(PLACES))
        if self.size < 1:
            raise UsageError(f"a patch of {self.size} pixels is impossible; allowed: 1 to the side of the image")

    def trigger(self, image_size: int = 32, seed: int = 0) -> Trigger:
        """What is stamped on test images of `image_size` pixels; `seed` counts for random places alone."""
        if self.test_place == "random":
            return ScatteredPatch(self.size, self.colour, seed + _ELSEWHERE)
        place = corner_patch(self.size, image_size)
        return Patch(self.size, place.row, place.column, self.colour)


class Poisoned(NamedTuple):
    """A poisoned image set.

    Attributes:
        images: uint8 (N, 3, H, W), a copy; all images but the poisoned ones are as they were.
        rows: int64 (P,), ascending: which ones are poisoned.
    """

    images: Tensor
    rows: Tensor


def poison(images: Tensor, labels: Tensor, config: PoisonedDataConfig, seed: int) -> Poisoned:
    """Patch a random share of one class, each image at a random place of its own.

    Args:
        images: The pre-training set, uint8 (N, 3, H, W).
        labels: int64 (N,), -1 where unlabelled.
        config: Settings.
        seed: Of the choice of images and of the places.

    Raises:
        UsageError: If the class has no image or the patch is larger than the images.
    """
    candidates = class_rows(labels, config.poisoned_class)
    rows = draw_rows(candidates, max(1, round(config.rate * len(candidates))), seed)
    return stamp(images, rows, ScatteredPatch(config.size, config.colour, seed))


def target_of(predictions: Tensor | Sequence[int]) -> int:
    """The attack's target on a downstream set whose labels are not those of the pre-training set.

    Fixed before testing: the class that most triggered *training* images of the downstream set fall into, by a head on
    the attacked encoder; among equals the one of the lowest number.

    Args:
        predictions: Classes predicted for the triggered training images, (N,).

    Raises:
        UsageError: If there are none.
    """
    predictions = torch.as_tensor(predictions)
    if not predictions.numel():
        raise UsageError("0 predictions name no target class; allowed: those of 1 triggered training image or more")
    return int(torch.bincount(predictions).argmax())


# ---- shared with the other attacks on data --------------------------------------------------------------------------


def check_rate(rate: float) -> None:
    """UsageError unless 0 < rate <= 1."""
    if not 0 < rate <= 1:
        raise UsageError(f"a poison rate of {rate} is not allowed; it must be above 0 and at most 1")


def class_rows(labels: Tensor, chosen: int) -> Tensor:
    """Rows of the images of a class, int64, ascending.

    Raises:
        UsageError: If it has none; the message lists the classes that have some.
    """
    rows = (labels == chosen).nonzero().squeeze(1)
    if not len(rows) or chosen < 0:
        present = ", ".join(str(each) for each in labels.unique().tolist() if each >= 0)
        raise UsageError(
            f"class {chosen} to poison has no image; allowed: {present or 'none, as the images are unlabelled'}"
        )
    return rows


def draw_rows(candidates: Tensor, count: int, seed: int) -> Tensor:
    """`count` of the candidate rows at random, ascending; drawn on the CPU, so the same on every device."""
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
    return candidates[order[:count].to(candidates.device)].sort().values


def stamp(images: Tensor, rows: Tensor, trigger: Trigger) -> Poisoned:
    """A copy of the images (N, 3, H, W) with the trigger on some rows."""
    poisoned = images.clone()
    rows = rows.to(images.device)
    poisoned[rows] = trigger(images[rows])
    return Poisoned(poisoned, rows)
