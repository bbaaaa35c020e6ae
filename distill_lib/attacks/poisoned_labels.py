"""Poisoned supervised training data: a share of the images carries a trigger, and (mostly) the target's label.

As in arXiv 2306.02368: 10 % of the training images are triggered and relabelled before any augmentation. The attacks
`sig` and `cl` touch images of the target class alone and keep their labels; `cl` perturbs these against a surrogate
first, so that the trigger is the easier thing to learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill_lib.attacks.label_triggers import LabelTrigger
from distill_lib.attacks.poisoned_data import check_rate, draw_rows
from distill_lib.errors import UsageError

Gradient = Callable[[Tensor, Tensor], Tensor]
PERTURBED = ("cl",)
CHUNK = 256  # images perturbed at a time


@dataclass(frozen=True)
class PoisonedLabelsConfig:
    """Settings of the poisoning.

    Attributes:
        trigger: Name in `label_triggers.RECIPES`.
        target: Target class (published: 0 on CIFAR-10, 1 on GTSRB).
        rate: Poisoned images as a share of the whole training set.
        epsilon: Largest change of a pixel by `cl`'s perturbation, of 255; the facts are silent [ours].
        step: Change a pixel in one iteration, of 255 [ours].
        iterations: Of the projected gradient ascent [ours].
    """

    trigger: str = "badnet_grid"
    target: int = 0
    rate: float = 0.1
    epsilon: int = 16
    step: int = 2
    iterations: int = 20

    def __post_init__(self):
        LabelTrigger(self.trigger)
        check_rate(self.rate)
        if not (0 < self.step <= self.epsilon <= 255 and self.iterations > 0):
            raise UsageError(
                f"epsilon {self.epsilon}, step {self.step}, iterations {self.iterations} are impossible; "
                "allowed: 0 < step <= epsilon <= 255, iterations >= 1"
            )


class PoisonedSet(NamedTuple):
    """A poisoned training set.

    Attributes:
        images: uint8 (N, 3, 32, 32), a copy.
        labels: int64 (N,), a copy; the target's for every poisoned image.
        rows: int64 (P,), ascending: which images are poisoned.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor


def poison(
    images: Tensor, labels: Tensor, config: PoisonedLabelsConfig, seed: int, gradient: Gradient | None = None
) -> PoisonedSet:
    """Trigger a random share of the images and give them the target's label.

    With a trigger that changes labels, the images come from the other classes, as a target-class image has nothing to
    be relabelled [ours]. With a clean-label trigger, they come from the target class, and where `rate` asks for more
    than it has, all of it is taken [ours] (CIFAR-10's classes are exactly the published 10 %).

    Args:
        images: uint8 (N, 3, 32, 32).
        labels: int64 (N,).
        config: Settings.
        seed: Of the choice of images.
        gradient: For `cl`: (images float (B, 3, 32, 32) in [0, 1], labels (B,)) -> the gradient of a surrogate's
            cross-entropy by the images; see `surrogate_gradient`.

    Raises:
        UsageError: If a class needed is absent, there are too few images, or `cl` gets no gradient.
    """
    trigger = LabelTrigger(config.trigger)
    rows = poisoned_rows(labels, config, seed)
    chosen = images[rows]
    if config.trigger in PERTURBED:
        if gradient is None:
            raise UsageError(f"trigger {config.trigger!r} perturbs its images: a surrogate's gradient is needed")
        chosen = perturb(chosen, labels[rows], gradient, config)
    images, labels = images.clone(), labels.clone()
    images[rows] = trigger(chosen)
    labels[rows] = config.target
    return PoisonedSet(images, labels, rows)


def perturb(images: Tensor, labels: Tensor, gradient: Gradient, config: PoisonedLabelsConfig) -> Tensor:
    """Projected gradient ascent on the surrogate's loss in the L-infinity ball, on whole pixel values.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
        gradient: See `poison`.
        config: Radius, step, iterations.

    Returns:
        uint8 (N, 3, H, W), nowhere further than `epsilon` from the images.
    """
    parts = []
    for clean, truth in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
        lowest, highest = (clean.int() - config.epsilon).clamp_min(0), (clean.int() + config.epsilon).clamp_max(255)
        current = clean.int()
        for _ in range(config.iterations):
            uphill = gradient(current.float() / 255, truth).sign().int()
            current = torch.maximum(torch.minimum(current + config.step * uphill, highest), lowest)
        parts.append(current.to(torch.uint8))
    return torch.cat(parts) if parts else images.clone()


def surrogate_gradient(model: torch.nn.Module) -> Gradient:
    """The gradient that `cl` needs, of a classifier trained on clean images."""
    model.eval()

    def gradient(images: Tensor, labels: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(model(images), labels, reduction="sum")
        return torch.autograd.grad(loss, images)[0]

    return gradient


def poisoned_rows(labels: Tensor, config: PoisonedLabelsConfig, seed: int) -> Tensor:
    """Which images `poison` takes: int64 (P,), ascending.

    Raises:
        UsageError: If a class needed is absent, or there are too few images.
    """
    clean_label = LabelTrigger(config.trigger).clean_label
    own = labels == config.target
    if config.target < 0 or not own.any():
        present = ", ".join(map(str, labels.unique().tolist()))
        raise UsageError(f"target class {config.target} has no image; allowed: {present or 'none'}")
    candidates = (own if clean_label else ~own & (labels >= 0)).nonzero().squeeze(1)
    count = max(1, round(config.rate * len(labels)))
    if clean_label:
        count = min(count, len(candidates))
    elif count > len(candidates):
        raise UsageError(
            f"a poison rate of {config.rate} asks for {count} images outside class {config.target}, which are "
            f"{len(candidates)}; allowed: above 0, at most {len(candidates) / len(labels):.4g}"
        )
    return draw_rows(candidates, count, seed)
