"""KD: knowledge distillation (Hinton, Vinyals and Dean, arXiv 1503.02531, 2015)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from distill_lib.distillation.losses.representation import Representation, map_pairs, output_pair


def kd(student: Representation, teacher: Representation, temperature: float = 0.5) -> Tensor:
    """T^2 KL(softmax(f_T / T) || softmax(f_S / T)) over the last representation, mean over the batch.

    An encoder has no classes: the D features of its output stand in for the logits.

    Args:
        student: Its output (B, D) is used.
        teacher: Likewise, without gradients.
        temperature: T; 0.5 in arXiv 2403.03846.

    Returns:
        A scalar.
    """
    return _divergence(*output_pair(student, teacher), temperature)


def kd_released(
    student: Representation,
    teacher: Representation,
    stages: Sequence[str] = ("stage1",),
    temperature: float = 0.5,
) -> Tensor:
    """As the authors released it: on the map of stage 1, the softmax over its channels.

    `batchmean` divides by B alone, so the H x W divergences of an image are summed; that the release
    reduces so is our reading.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Whose divergences are summed.
        temperature: T.
    """
    return sum(_divergence(s, t, temperature) for s, t in map_pairs(student, teacher, stages))


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    learned = log_softmax(student / temperature, dim=1)
    taught = log_softmax(teacher / temperature, dim=1)
    return temperature**2 * kl_div(learned, taught, reduction="batchmean", log_target=True)
