"""FitNet: hints from the teacher's feature maps (Romero et al., ICLR 2015)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import mse_loss

from distill_lib.distillation.losses.representation import Representation, map_pairs
from distill_lib.vision.encoders import STAGES


def fitnet(student: Representation, teacher: Representation, stages: Sequence[str] = STAGES) -> Tensor:
    """Sum over stages of mean (F_S - F_T)^2, the mean over all B C H W elements.

    Student and teacher share an architecture, so the paper's regressor between their widths falls away.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Summed over.

    Returns:
        A scalar.
    """
    return sum(mse_loss(s, t) for s, t in map_pairs(student, teacher, stages))
