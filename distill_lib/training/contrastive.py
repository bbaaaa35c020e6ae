"""NT-Xent, the contrastive loss of SimCLR."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised-temperature cross-entropy of SimCLR (Chen et al., ICML 2020, equation 1 and algorithm 1).

    Every one of the 2 B views is to pick its partner among the other 2 B - 1, by softmax(cos / temperature);
    the mean of the 2 B cross-entropies. Computed in float32 (float64 stays), also under autocast.

    Args:
        z1: (B, D) projections of the first views, of any length; normalised here.
        z2: (B, D) of the second views, in the same order.
        temperature: tau, above 0; 0.5 on CIFAR-10 in the paper.

    Returns:
        A scalar: log(1 + (2 B - 2) exp(-1 / tau)) where views agree and images are at right angles.

    Raises:
        ValueError: If the shapes differ or are not (B, D).
    """
    if z1.shape != z2.shape or z1.ndim != 2:
        raise ValueError(f"views of shape {tuple(z1.shape)} and {tuple(z2.shape)}; both must be one (B, D)")
    with torch.autocast(z1.device.type, enabled=False):
        both = torch.cat([z1, z2])
        unit = normalize(both if both.dtype == torch.float64 else both.float(), dim=1)
        # A view is no candidate for itself; exp(-inf) = 0 leaves it out of value and gradient.
        scores = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
        partners = torch.arange(len(both), device=both.device).roll(len(z1))
        return cross_entropy(scores, partners)
