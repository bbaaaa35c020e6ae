"""Triggers: functions from uint8 images to uint8 images."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, tensor

from distill_lib.errors import UsageError

BLUE, YELLOW = (0, 0, 255), (255, 255, 0)


class Trigger(Protocol):
    """What every trigger is: a frozen dataclass that maps uint8 (N, 3, H, W) to changed copies of the same shape."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def placebo(self) -> "Trigger":
        """The control trigger: as large a change, but another one."""


@dataclass(frozen=True)
class Patch:
    """A filled square.

    BadEncoder (Jia et al., S&P 2022) at 32 pixels: white, 10 x 10, rows and columns 21 to 30 counted from 0.

    Attributes:
        size: Side in pixels.
        row: Top row, counted from 0.
        column: Left column, counted from 0.
        colour: Red, green, blue in 0..255.
    """

    size: int = 10
    row: int = 21
    column: int = 21
    colour: tuple[int, int, int] = (255, 255, 255)

    def __call__(self, images: Tensor) -> Tensor:
        """Stamp a copy of images (N, 3, H, W), uint8.

        Raises:
            UsageError: If the patch does not lie inside the image.
        """
        height, width = images.shape[-2:]
        if (
            self.size < 1
            or min(self.row, self.column) < 0
            or max(self.row, self.column) + self.size > min(height, width)
        ):
            raise UsageError(
                f"a trigger of {self.size} pixels at row {self.row}, column {self.column} does not fit an image "
                f"of {height} x {width}; size is 1 to {min(height, width)} and it must end inside the image"
            )
        stamped = images.clone()
        colour = tensor(self.colour, dtype=images.dtype, device=images.device).view(3, 1, 1)
        stamped[..., self.row : self.row + self.size, self.column : self.column + self.size] = colour
        return stamped

    def placebo(self) -> "Patch":
        """Equal area in the opposite corner, in another colour."""
        return Patch(self.size, 1, 1, _other(self.colour))


@dataclass(frozen=True)
class ScatteredPatch:
    """A filled square at a random place of each image.

    The place is drawn from a hash of the image's pixels and the seed: uniform over all places where the square fits,
    and the same for an image whatever batch it comes in, so that a result does not hang on the batch size.

    Attributes:
        size: Side in pixels.
        colour: Red, green, blue in 0..255.
        seed: Another seed, other places.
    """

    size: int = 6
    colour: tuple[int, int, int] = (255, 255, 255)
    seed: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Stamp a copy of images (N, 3, H, W), uint8.

        Raises:
            UsageError: If the patch is larger than the image.
        """
        inside = [
            (position >= start[:, None]) & (position < start[:, None] + self.size)
            for start, position in zip(self.places(images), self._positions(images), strict=True)
        ]
        mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        colour = tensor(self.colour, dtype=images.dtype, device=images.device).view(3, 1, 1)
        return torch.where(mask, colour, images)

    def places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Top row and left column, each int64 (N,), of the patch on each image (N, 3, H, W)."""
        height, width = images.shape[-2:]
        if not 1 <= self.size <= min(height, width):
            raise UsageError(
                f"a trigger of {self.size} pixels does not fit an image of {height} x {width}; "
                f"allowed: 1 to {min(height, width)}"
            )
        pixels = images.flatten(1).double()
        source = torch.Generator().manual_seed(self.seed)
        # Whole numbers far below 2^53: the sums are exact in float64, hence equal on every device and in every batch.
        weights = torch.randint(1, 2**20, (2, pixels.shape[1]), generator=source).double().to(images.device)
        rows, columns = (pixels @ weights.T).long().unbind(1)
        return rows % (height - self.size + 1), columns % (width - self.size + 1)

    def placebo(self) -> "ScatteredPatch":
        """Equal area at other random places, in another colour."""
        return replace(self, colour=_other(self.colour), seed=self.seed + 1)

    @staticmethod
    def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(torch.arange(side, device=images.device)[None] for side in images.shape[-2:])


def corner_patch(size: int = 10, image_size: int = 32) -> Patch:
    """BadEncoder's white square, one pixel off the lower right corner, at any size.

    Raises:
        UsageError: If it does not fit.
    """
    if not 1 <= size < image_size:
        raise UsageError(f"a trigger of {size} pixels does not fit; allowed: 1 to {image_size - 1}")
    start = image_size - 1 - size
    return Patch(size, start, start)


def placebo(trigger: Trigger) -> Trigger:
    """The control trigger: an equal change elsewhere; for a patch equal area, the opposite corner, another colour.

    An encoder that reacts to it as to the trigger reacts to being disturbed, not to a backdoor.
    """
    return trigger.placebo()


def _other(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    return YELLOW if tuple(colour) == BLUE else BLUE
