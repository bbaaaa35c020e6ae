"""AT: attention transfer (Zagoruyko and Komodakis, ICLR 2017)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from distill_lib.distillation.losses.representation import Representation, map_pairs
from distill_lib.vision.encoders import STAGES

GUARD = 1e-4  # least norm of an attention map: a dead one gives no exploding gradient


def attention(maps: Tensor) -> Tensor:
    """Where an encoder looks: A(F) = sum_c |F_c|^2, L2-normalised per image; (B, C, H, W) to (B, H W)."""
    return normalize(maps.square().sum(1).flatten(1), dim=1, eps=GUARD)


def at(student: Representation, teacher: Representation, stages: Sequence[str] = STAGES) -> Tensor:
    """Sum over stages of mean (A_S - A_T)^2, the mean over images and positions.

    The paper takes half the norm of the difference; this mean of squares is what the common implementations,
    the weight of 1000 and arXiv 2403.03846 go with.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Summed over.

    Returns:
        A scalar.
    """
    return sum(mse_loss(attention(s), attention(t)) for s, t in map_pairs(student, teacher, stages))
