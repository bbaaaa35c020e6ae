"""Adversarial images by projected gradient ascent (Madry et al., ICLR 2018), for the Adversarial Sparse Teacher.

A pass costs what it must: the network is frozen and in eval mode, and the gradient is that of the input alone. A whole
set is kept as bytes.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distill_lib.errors import UsageError, choose
from distill_lib.vision.features import to_unit

CHUNK = 256  # images at a time where a whole set is attacked
GRID = 255
SLACK = 1e-3  # of a pixel value: what float32 may miss of a whole number
# CIFAR-10's mean and deviation as the release has them. Not those of our networks' input layer, whose deviation is a
# mean over images (.20 in the place of .25): with it the same radius would reach less far in pixels.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


class Space(NamedTuple):
    """Coordinates in which a step, a radius and the range from 0 to 1 are meant.

    Attributes:
        mean: Pixel value of coordinate 0, a channel.
        std: Pixel values a unit, a channel.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """`mean` and `std`, (1, 3, 1, 1) each, of the type and on the device of another tensor."""
        numbers = torch.tensor((self.mean, self.std), dtype=like.dtype, device=like.device)
        return tuple(numbers.view(2, 1, 3, 1, 1))

    def values(self, pixels: Tensor) -> Tensor:
        """Coordinates of pixels in [0, 1], (B, 3, H, W) both."""
        mean, std = self.tensors(pixels)
        return (pixels - mean) / std

    def pixels(self, values: Tensor) -> Tensor:
        """The way back."""
        mean, std = self.tensors(values)
        return values * std + mean


# `normalised` is the release's space. A normalised image does not lie between 0 and 1: clamped to that range, every
# value darker than the data's mean becomes the mean, so that the images leave the ball, and most of their content.
SPACES: dict[str, Space] = {"pixel": Space((0.0,) * 3, (1.0,) * 3), "normalised": Space(MEAN, STD)}


@dataclass(frozen=True)
class PGDConfig:
    """Settings; the published ones, meant in normalised space.

    Attributes:
        epsilon: Largest change of a value, in units of the space.
        step: Change in one iteration.
        iterations: Steps; no random start, as released.
        space: `normalised` (as released) or `pixel`.
    """

    epsilon: float = 0.3
    step: float = 0.01
    iterations: int = 40
    space: str = "normalised"

    def __post_init__(self):
        choose("space of adversarial images", self.space, SPACES)
        if not (self.epsilon > 0 and self.step > 0 and self.iterations >= 1):
            raise UsageError(
                f"epsilon {self.epsilon}, step {self.step}, iterations {self.iterations} are impossible; "
                "allowed: epsilon > 0, step > 0, iterations >= 1"
            )


# The same radius and step in pixels: a unit of normalised space is a quarter of the range [ours].
PIXEL = PGDConfig(epsilon=0.075, step=0.0025, space="pixel")


def frozen(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters ask for no gradient: the attacked network itself is left as it is."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def pgd(model: nn.Module, images: Tensor, labels: Tensor, config: PGDConfig) -> Tensor:
    """Images on which the model's cross-entropy is large, near the given ones.

    v <- clamp(v_0 + clip(v + step sign(dL / dv) - v_0, -epsilon, epsilon), 0, 1), v in the space's units.

    Args:
        model: `frozen`, from images in [0, 1] to logits.
        images: (B, 3, H, W) in [0, 1].
        labels: int64 (B,), those to move away from.
        config: Settings.

    Returns:
        v, float (B, 3, H, W) in [0, 1], in the units of `config.space`: `SPACES[...].pixels` makes images of it. In
        pixel space nothing is further than epsilon from the images.
    """
    space = SPACES[config.space]
    mean, std = space.tensors(images)  # once: a number brought to a GPU makes it wait
    start = space.values(images.detach())
    lowest, highest = ((start + shift).clamp(0, 1) for shift in (-config.epsilon, config.epsilon))
    values = start
    for _ in range(config.iterations):
        values = values.detach().requires_grad_()
        with torch.enable_grad():
            # The sum's gradient has the mean's sign, and does not vanish as the batch grows.
            loss = cross_entropy(model(values * std + mean), labels, reduction="sum")
            uphill = torch.autograd.grad(loss, values)[0]
        values = torch.maximum(torch.minimum(values.detach() + config.step * uphill.sign(), highest), lowest)
    return values.detach()


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarial images of a training set, row by row, a byte a value.

    Attributes:
        values: uint8 (N, 3, H, W): the space's 0 to 1 as 0 to 255.
        space: Name in `SPACES`.
    """

    values: Tensor
    space: str

    def pixels(self, values: Tensor) -> Tensor:
        """float32 images in [0, 1] of values of this set, (B, 3, H, W), in 0 to 1 of its space."""
        return SPACES[self.space].pixels(values)


def adversarial_set(model: nn.Module, images: Tensor, labels: Tensor, config: PGDConfig) -> AdversarialSet:
    """Attack a whole training set once.

    As released, the images themselves are attacked, without augmentation; `ASTConfig.augment_targets` says whether the
    found ones are augmented when they are used.

    Args:
        model: The attacked network, left as it is.
        images: uint8 (N, 3, H, W), on the model's device.
        labels: int64 (N,).
        config: Settings.
    """
    attacked = frozen(model)
    parts = []
    for part, truth in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        clean = to_unit(part)
        parts.append(_as_bytes(pgd(attacked, clean, truth, config), clean, config.space))
    return AdversarialSet(torch.cat(parts), config.space)


def clamped_set(images: Tensor, space: str) -> AdversarialSet:
    """The images as the attack finds them before its first step: clamped to 0 to 1 in a space, otherwise clean.

    Args:
        images: uint8 (N, 3, H, W).
        space: Name in `SPACES`.
    """
    parts = []
    for part in images.split(CHUNK):
        clean = to_unit(part)
        parts.append(_as_bytes(SPACES[space].values(clean).clamp(0, 1), clean, space))
    return AdversarialSet(torch.cat(parts), space)


def _as_bytes(values: Tensor, clean: Tensor, space: str) -> Tensor:
    """Rounded to the next of 256 values; in pixel space towards the clean image, which lies on them."""
    if space == "pixel":
        change = (values - clean) * GRID
        values = clean + (change + SLACK * change.sign()).trunc() / GRID
    return (values * GRID).round().clamp_(0, GRID).to(torch.uint8)
