"""CTRL (Li et al., ICCV 2023): a trigger in the frequencies of the chroma, on images of one pre-training class.

Published: YUV chroma, magnitude 100 at DCT positions 15 and 31, poison rate 1 % (ASR >= 99 % claimed). The publication
leaves open, in the facts at hand, and is ours here [ours]:

* 15 and 31 are the positions (15, 15) and (31, 31) of a two-dimensional orthonormal DCT-II over windows of 32 x 32
  pixels, which is the whole image at 32 pixels;
* the magnitude is added to the coefficients of both chroma channels, on images in 0..255;
* YUV is that of ITU-R BT.601; the same magnitude poisons and triggers; 1 % counts the whole set.

The encoder is then trained on all images by ordinary self-supervised pre-training.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from distill_lib.attacks.poisoned_data import Poisoned, check_rate, class_rows, draw_rows, stamp
from distill_lib.errors import UsageError

# ITU-R BT.601: (R, G, B) -> (Y, U, V). An offset of the chroma would cancel, since only differences are used here.
RGB_TO_YUV = ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))
CHROMA = (1, 2)  # U and V


@dataclass(frozen=True)
class FrequencyTrigger:
    """Adds a magnitude at DCT positions of the chroma.

    The DCT and the change of colour space are linear, so this adds one fixed faint pattern to every image; it is
    rounded and clipped to 0..255, as any image that is stored.

    Attributes:
        magnitude: Added to each coefficient, of images in 0..255.
        positions: (row, column) frequencies in a window, from 0 (constant) to window - 1.
        window: Side of the square blocks that are transformed one by one; it divides the image's sides.
    """

    magnitude: float = 100.0
    positions: tuple[tuple[int, int], ...] = ((15, 15), (31, 31))
    window: int = 32

    def __post_init__(self):
        frequencies = [each for position in self.positions for each in position]
        if self.window < 1 or not frequencies or not all(0 <= each < self.window for each in frequencies):
            raise UsageError(
                f"DCT positions {self.positions} do not lie in a window of {self.window}; "
                f"allowed: one or more pairs of 0 to {max(0, self.window - 1)}"
            )
        if not (math.isfinite(self.magnitude) and self.magnitude > 0):
            raise UsageError(f"a trigger magnitude of {self.magnitude} is impossible; allowed: a number above 0")

    def __call__(self, images: Tensor) -> Tensor:
        """Triggered copy of images (N, 3, H, W), uint8."""
        pattern = self.pattern(*images.shape[-2:]).float().to(images.device)
        return (images.float() + pattern).round_().clamp_(0, 255).to(images.dtype)

    def pattern(self, height: int = 32, width: int = 32) -> Tensor:
        """What is added before rounding and clipping, red, green and blue: float64 (3, H, W).

        Raises:
            UsageError: If the window does not divide the image.
        """
        if height % self.window or width % self.window:
            raise UsageError(
                f"a DCT window of {self.window} pixels does not divide an image of {height} x {width}; "
                "allowed: a divisor of both sides"
            )
        spectrum = torch.zeros(self.window, self.window, dtype=torch.float64)
        for row, column in self.positions:
            spectrum[row, column] = self.magnitude
        basis = dct_matrix(self.window)
        block = basis.T @ spectrum @ basis
        chroma = block.repeat(height // self.window, width // self.window)
        to_rgb = torch.linalg.inv(torch.tensor(RGB_TO_YUV, dtype=torch.float64))
        return to_rgb[:, list(CHROMA)].sum(1)[:, None, None] * chroma

    def placebo(self) -> "FrequencyTrigger":
        """Equal magnitude at as many other positions: every column frequency is moved by half a window.

        From (15, 15) and (31, 31) to (15, 31) and (31, 15): the trigger's own frequencies, crossed. By Parseval the
        added energy is equal too. From other positions the moved ones may be higher frequencies than any of the
        trigger's, which an encoder that halves the image sees less of.
        """
        half = self.window // 2
        for shift in (half + step for step in range(self.window)):
            moved = tuple((row, (column + shift) % self.window) for row, column in self.positions)
            if not set(moved) & set(self.positions):
                return replace(self, positions=moved)
        raise UsageError(f"DCT positions {self.positions} fill their rows: no other positions are left for a placebo")


@dataclass(frozen=True)
class CTRLConfig:
    """Settings of the poisoning.

    Attributes:
        poisoned_class: Class of the pre-training set whose images carry the trigger.
        rate: Poisoned images as a share of the whole set, above 0; the class must have as many.
        trigger: The same in training and test.
    """

    poisoned_class: int = 0
    rate: float = 0.01
    trigger: FrequencyTrigger = field(default_factory=FrequencyTrigger)

    def __post_init__(self):
        check_rate(self.rate)


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II, float64 (size, size): row k holds the cosine of frequency k.

    `D @ signal` transforms, `D.T @ spectrum` transforms back; in two dimensions `D @ image @ D.T`.
    """
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    place = torch.arange(size, dtype=torch.float64)[None]
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * (2 * place + 1) * frequency / (2 * size))
    matrix[0] = math.sqrt(1 / size)
    return matrix


def poison(images: Tensor, labels: Tensor, config: CTRLConfig, seed: int) -> Poisoned:
    """Put the trigger on random images of one class, `rate` of the whole set.

    Args:
        images: The pre-training set, uint8 (N, 3, H, W).
        labels: int64 (N,), -1 where unlabelled.
        config: Settings.
        seed: Of the choice of images.

    Raises:
        UsageError: If the class has too few images, or the window does not divide them.
    """
    candidates = class_rows(labels, config.poisoned_class)
    count = max(1, round(config.rate * len(images)))
    if count > len(candidates):
        raise UsageError(
            f"a poison rate of {config.rate} asks for {count} images of class {config.poisoned_class}, which has "
            f"{len(candidates)}; allowed: above 0, at most {len(candidates) / len(images):.4g}"
        )
    return stamp(images, draw_rows(candidates, count, seed), config.trigger)
