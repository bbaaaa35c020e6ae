"""Divergences of logits of which some may be minus infinity, and EPD, the loss of the Adversarial Sparse Teacher.

All are means over the batch of sums over the classes, without a factor T^2, which is the caller's.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax


def kl(first: Tensor, second: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(first / T) || softmax(second / T)), mean over the batch, a scalar; both carry gradients.

    Args:
        first: Logits (B, classes). A class at minus infinity has no chance and adds nothing, in value and gradient;
            torch's own formula multiplies 0 by infinity there.
        second: Logits (B, classes), all finite.
        temperature: T of both.
    """
    one, two = log_softmax(first / temperature, dim=1), log_softmax(second / temperature, dim=1)
    kept = one.masked_fill(one == -torch.inf, 0.0)
    return (one.exp() * (kept - two)).sum(1).mean()


def epd(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Exponential predictive divergence (arXiv 2403.05181, as released), mean over the batch, a scalar.

    EPD = mean_b sum_i exp(q_i) (q_i - p_i), with p = softmax(logits / T) and q = softmax(target / T).

    It is no divergence in the usual sense. Being linear in p, it is 0 at p = q but least, below 0, where p is one-hot
    at q's largest class; and where the targets' mean of exp(q) is the same for all classes, as when shuffled images
    meet the targets of others in balanced classes, its expected gradient is 0, since p sums to 1. In closed form

        d EPD / d z_j = - p_j (exp(q_j) - sum_i p_i exp(q_i)) / (T B).

    Args:
        logits: z, (B, classes), of the network in training.
        target: (B, classes), minus infinity allowed; carries no gradient.
        temperature: T of both.
    """
    chances, wanted = softmax(logits / temperature, dim=1), softmax(target.detach() / temperature, dim=1)
    return (wanted.exp() * (wanted - chances)).sum(1).mean()


def kl_of_target(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(target || logits), with the arguments of `epd`: what EPD replaces in AST."""
    return kl(target.detach(), logits, temperature)


# Of a network's logits from target logits: (logits, target, T) -> scalar.
DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"epd": epd, "kl": kl_of_target}
