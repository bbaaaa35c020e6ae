"""SP: similarity-preserving distillation (Tung and Mori, ICCV 2019)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from distill_lib.distillation.losses.representation import Representation, map_pairs

GUARD = 1e-3  # least norm of a row of G: a dead image gives no exploding gradient


def sp(student: Representation, teacher: Representation, stages: Sequence[str] = ("stage4",)) -> Tensor:
    """||G_T - G_S||_F^2 / B^2 with G = F F^T over the batch, each row of G L2-normalised (not L1).

    Rows of G are unit vectors, so a stage gives at most 4 / B: at weight 1 this hardly distils at all. The
    release of arXiv 2403.03846 never calls it: its "SP" is the feature cosine alone.

    Args:
        student: Its maps (B, C, H, W) of `stages` are flattened to F (B, C H W).
        teacher: Likewise, without gradients.
        stages: Summed over.

    Returns:
        A scalar.
    """
    return sum(mse_loss(_similarity(s), _similarity(t)) for s, t in map_pairs(student, teacher, stages))


def _similarity(maps: Tensor) -> Tensor:
    """(B, C, H, W) to the row-normalised similarities (B, B) of the batch."""
    rows = maps.flatten(1)
    return normalize(rows @ rows.T, dim=1, eps=GUARD)
