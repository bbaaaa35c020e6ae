"""What a thief sees of a teacher: how flat its answers are, and how many classes stand out in them."""

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from distill_lib.errors import UsageError

HALF = 0.5


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(logits / T) of each image, in nats: (B, classes) to (B,), 0 to log(classes).

    Args:
        logits: (B, classes); classes at minus infinity add nothing.
        temperature: T: 1 for the answer itself, the thief's for what KD learns from.
    """
    logs = log_softmax(logits / temperature, dim=1)
    return -(logs.exp() * logs.masked_fill(logs == -torch.inf, 0.0)).sum(1)


def peaks(logits: Tensor, height: float = HALF) -> Tensor:
    """Number of classes that stand out in each image's logits: (B, classes) to (B,), int64, at least 1.

    A class counts if its logit is more than half-way up from the image's median logit to its largest. The papers show
    peaks in pictures and define none; this count needs no temperature, and neither a shift nor a scale of all logits
    changes it [ours]. At most half of the classes can stand out, save ties with the largest. Where most logits are
    minus infinity, every finite one counts.

    Args:
        logits: (B, classes), at least two classes.
        height: Share of the way up, 0 to 1.

    Raises:
        UsageError: If the height is none.
    """
    if not 0 < height < 1:
        raise UsageError(f"height {height} of a peak is impossible; allowed: between 0 and 1")
    largest, median = logits.amax(1, keepdim=True), logits.median(1, keepdim=True).values
    level = torch.where(median == -torch.inf, median, median + height * (largest - median))
    return ((logits > level) | (logits == largest)).sum(1)


def describe(logits: Tensor, temperature: float = 1.0) -> dict[str, float]:
    """Means over the images: `entropy` in nats, `entropy_share` of the largest possible, `peaks`, `several_peaks` in %.

    Args:
        logits: (N, classes).
        temperature: Of the entropy.
    """
    if not len(logits):
        raise UsageError("there are no logits to describe; allowed: those of one image or more")
    nats, count = entropy(logits, temperature).mean().item(), peaks(logits)
    return {
        "entropy": nats,
        "entropy_share": nats / math.log(logits.shape[1]),
        "peaks": count.double().mean().item(),
        "several_peaks": 100 * (count > 1).double().mean().item(),
    }
