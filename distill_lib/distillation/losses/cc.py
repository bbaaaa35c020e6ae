"""CC: correlation congruence (Peng et al., ICCV 2019)."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from distill_lib.distillation.losses.representation import Representation, map_pairs, output_pair
from distill_lib.vision.encoders import STAGES

GUARD = 1e-3  # least norm of an embedding: a dead one gives no exploding gradient


def cc(student: Representation, teacher: Representation, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Mean squared difference, over all B^2 pairs, of the correlation matrices of student and teacher.

    The correlation of two unit embeddings is their Gaussian RBF exp(-gamma |x - y|^2), as the paper's Taylor
    series sum_{p=0}^{P} exp(-2 gamma) (2 gamma)^p / p! <x, y>^p. Settings are the paper's.

    Args:
        student: Its output (B, D), L2-normalised here, is used.
        teacher: Likewise, without gradients.
        gamma: Of the RBF.
        order: P, the last power kept.

    Returns:
        A scalar.
    """
    learned, taught = output_pair(student, teacher)
    return mse_loss(_correlation(learned, gamma, order), _correlation(taught, gamma, order))


def cc_released(student: Representation, teacher: Representation, stages: Sequence[str] = STAGES) -> Tensor:
    """As the authors released it: products of errors of neighbours in the batch, no correlation of images.

    d = |F_S - F_T|; d_b d_{b+1} summed over channels, averaged over the B - 1 neighbours, height and width;
    summed over stages.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Summed over.

    Raises:
        ValueError: If the batch has one image, hence no neighbours.
    """
    return sum(_neighbours((s - t).abs()) for s, t in map_pairs(student, teacher, stages))


def _correlation(embeddings: Tensor, gamma: float, order: int) -> Tensor:
    """(B, D) to (B, B)."""
    unit = normalize(embeddings, dim=1, eps=GUARD)
    cosines = unit @ unit.T
    terms = (cosines**power * ((2 * gamma) ** power / math.factorial(power)) for power in range(order + 1))
    return math.exp(-2 * gamma) * sum(terms)


def _neighbours(error: Tensor) -> Tensor:
    if len(error) < 2:
        raise ValueError(f"neighbours in the batch need 2 images; the maps are {tuple(error.shape)}")
    return (error[:-1] * error[1:]).sum(1).mean()
