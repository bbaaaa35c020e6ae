"""Triggers: functions from uint8 images to uint8 images."""

from dataclasses import dataclass

from torch import Tensor, tensor

from distill_lib.errors import UsageError


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


def corner_patch(size: int = 10, image_size: int = 32) -> Patch:
    """BadEncoder's white square, one pixel off the lower right corner, at any size.

    Raises:
        UsageError: If it does not fit.
    """
    if not 1 <= size < image_size:
        raise UsageError(f"a trigger of {size} pixels does not fit; allowed: 1 to {image_size - 1}")
    start = image_size - 1 - size
    return Patch(size, start, start)


def placebo(trigger: Patch) -> Patch:
    """The control trigger: equal area, the opposite corner, another colour.

    An encoder that reacts to it as to the trigger reacts to being covered, not to a backdoor.
    """
    return Patch(trigger.size, 1, 1, (0, 0, 255))
