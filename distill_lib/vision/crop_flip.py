"""The augmentation of supervised training: pad, crop at random, flip; a whole batch on the device."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from distill_lib.errors import UsageError


@dataclass(frozen=True)
class CropFlip:
    """Black padding on every side, a random crop of the original size, a random horizontal flip.

    Attributes:
        padding: Pixels on each side.
        flip: Probability of the flip.
    """

    padding: int = 4
    flip: float = 0.5

    def __post_init__(self):
        if self.padding < 0 or not 0 <= self.flip <= 1:
            raise UsageError(
                f"padding {self.padding} and flip {self.flip} are impossible; allowed: padding >= 0, flip 0 to 1"
            )

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """One view of each image.

        Args:
            images: uint8 (B, 3, H, W).
            generator: On the images' device; the only source of randomness.

        Returns:
            float32 (B, 3, H, W) in [0, 1], channels last in memory.
        """
        count, _, height, width = images.shape
        shifts = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator, device=images.device)
        flipped = torch.rand(count, 1, generator=generator, device=images.device) < self.flip
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        columns = torch.where(flipped, columns.flip(0), columns)
        padded = pad(images, (self.padding,) * 4).permute(0, 2, 3, 1)  # pixels stay together while gathered
        batch = torch.arange(count, device=images.device)[:, None, None]
        views = padded[batch, (shifts[0] + rows)[:, :, None], (shifts[1] + columns)[:, None, :]]
        return views.permute(0, 3, 1, 2).float().div_(255)
