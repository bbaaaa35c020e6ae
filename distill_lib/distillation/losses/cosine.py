"""Feature cosine: the last term of the objective of arXiv 2403.03846, and alone the study's plainest loss."""

from torch import Tensor
from torch.nn.functional import normalize

from distill_lib.distillation.losses.representation import Representation, output_pair

GUARD = 1e-3  # least norm of an output: a dead one gives no exploding gradient


def cosine(student: Representation, teacher: Representation) -> Tensor:
    """Mean over the batch of 1 - cos(f_S, f_T): 0 when they agree, where the paper's -cos is -1.

    Args:
        student: Its output (B, D) is used.
        teacher: Likewise, without gradients.

    Returns:
        A scalar from 0 to 2.
    """
    learned, taught = (normalize(each, dim=1, eps=GUARD) for each in output_pair(student, teacher))
    return 1 - (learned * taught).sum(1).mean()
