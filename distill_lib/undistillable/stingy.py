"""Stingy teachers: a trained network that tells its largest logits only (Ma et al., 2022). Nothing is trained."""

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError

# exp(-1e4 / T) is 0 in float32 up to T = 96, and 0 times it is no NaN: for methods whose KL takes finite logits alone.
FINITE = -1e4


def top_logits(logits: Tensor, keep: int, fill: float = -torch.inf) -> Tensor:
    """The `keep` largest logits of each image as they are, `fill` in the place of all others.

    Args:
        logits: (B, classes).
        keep: Logits kept, exactly: of equal ones, torch's `topk` chooses. The largest is always among them.
        fill: Of the others.

    Raises:
        UsageError: If there are fewer classes.
    """
    if not 1 <= keep <= logits.shape[1]:
        raise UsageError(f"{keep} of {logits.shape[1]} logits cannot be kept; allowed: 1 to {logits.shape[1]}")
    largest = logits.topk(keep, dim=1)
    return torch.full_like(logits, fill).scatter(1, largest.indices, largest.values)


class Stingy(nn.Module):
    """A teacher behind the sparsifier; everything but its logits is the network's own, by the same names.

    Args:
        network: A trained classifier; it is shared, not copied.
        keep: Logits told. Published: 2, 10 and 20 of 10, 100 and 200 classes.
        fill: Of the others; published: minus infinity. `FINITE` is for methods that need finite logits (data-free
            ones) and tells a thief the same [ours].
    """

    def __init__(self, network: nn.Module, keep: int, fill: float = -torch.inf):
        super().__init__()
        self.network, self.keep, self.fill = network, keep, fill

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 3, H, W) in [0, 1], `keep` of them as they are."""
        return top_logits(self.network(images), self.keep, self.fill)

    def tail(self, maps: Tensor) -> Tensor:
        """Likewise of the maps of a `WideResNet`, which answers in two halves."""
        return top_logits(self.network.tail(maps), self.keep, self.fill)

    def __getattr__(self, name: str):
        """Hook paths, `trunk`, `stages` and the rest of the network's own."""
        if name in ("_modules", "_parameters", "_buffers", "network"):  # while a copy is made, there is none yet
            return super().__getattr__(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.network, name)
