"""AFD: attentive feature distillation, channels weighed by a teacher's attention (Wang et al., ICLR 2020)."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from distill_lib.distillation.losses.representation import Representation, map_pairs
from distill_lib.vision.encoders import STAGES

# Joins a channel's norm in squares. Norms after batch norm and ReLU are mostly 0.3 to 20; an all-zero student
# channel (dead ReLUs), else of unbounded gradient, gets at most 2 rho / (GUARD B H W), any other twice that.
GUARD = 0.1
REDUCTION = 16  # of the squeeze; the usual one, the release's is not known


def afd(student: Representation, teacher: Representation, stages: Sequence[str] = STAGES) -> Tensor:
    """Sum over stages of mean_b sum_c rho_c mean_hw (F_S - F_T)^2, every channel of a map L2-normalised.

    Without parameters: rho is the softmax, over channels, of the teacher's pooled channels. An attention
    trained on the loss it weighs can learn to look away from hard channels; `LearnedAFD` is that variant.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Summed over.

    Returns:
        A scalar.
    """
    pairs = map_pairs(student, teacher, stages)
    return _attentive(pairs, (lambda pooled: pooled.softmax(1) for _ in pairs))


def afd_released(
    student: Representation,
    teacher: Representation,
    stages: Sequence[str] = STAGES,
    *,
    generator: Generator,
) -> Tensor:
    """As the authors released it: rho from a squeeze-and-excitation block with random, never trained weights.

    The weights are drawn anew at each call. The release draws them once an epoch: for that, hand in a
    generator seeded with the epoch's number. The guard of the norm is ours.

    Args:
        student: Its maps (B, C, H, W) of `stages` are used.
        teacher: Likewise, without gradients.
        stages: Summed over.
        generator: Where the weights come from.

    Returns:
        A scalar.
    """
    pairs = map_pairs(student, teacher, stages)
    blocks = (Excitation(taught.shape[1], generator).to(taught.device) for _, taught in pairs)
    return _attentive(pairs, (block.requires_grad_(False) for block in blocks))


class LearnedAFD(nn.Module):
    """AFD whose squeeze-and-excitation attention is trained together with the student.

    Args:
        channels: Channels of the map of each stage that the loss is to see.
        seed: Of the weights.
    """

    def __init__(self, channels: Mapping[str, int], seed: int = 0):
        super().__init__()
        generator = Generator().manual_seed(seed)
        blocks = {stage: Excitation(count, generator) for stage, count in channels.items()}
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, student: Representation, teacher: Representation, stages: Sequence[str] | None = None) -> Tensor:
        """The loss, a scalar, over `stages` (those it was built for); shapes as in `afd`."""
        stages = tuple(self.blocks) if stages is None else stages
        return _attentive(map_pairs(student, teacher, stages), (self.blocks[stage] for stage in stages))


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018) on pooled channels (B, C), its gates scaled to sum to 1.

    Weights are He-normal over the fan-out and biases zero, drawn from `generator` alone.
    """

    def __init__(self, channels: int, generator: Generator):
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.squeeze = nn.Parameter(_he_normal(hidden, channels, generator))
        self.excite = nn.Parameter(_he_normal(channels, hidden, generator))
        self.squeeze_bias = nn.Parameter(torch.zeros(hidden, device=generator.device))
        self.excite_bias = nn.Parameter(torch.zeros(channels, device=generator.device))

    def forward(self, pooled: Tensor) -> Tensor:
        held = self.squeeze, self.squeeze_bias, self.excite, self.excite_bias
        squeeze, squeeze_bias, excite, excite_bias = (each.to(pooled.dtype) for each in held)
        gates = linear(linear(pooled, squeeze, squeeze_bias).relu(), excite, excite_bias).sigmoid()
        return gates / gates.sum(1, keepdim=True)


def _he_normal(outputs: int, inputs: int, generator: Generator) -> Tensor:
    return torch.randn(outputs, inputs, generator=generator, device=generator.device) * (2 / outputs) ** 0.5


def _attentive(pairs: Sequence[tuple[Tensor, Tensor]], attentions: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    total = 0.0
    for (learned, taught), attention in zip(pairs, attentions, strict=True):
        rho = attention(taught.mean((2, 3)))  # (B, C), rows sum to 1
        error = (_unit_channels(learned) - _unit_channels(taught)).square().mean((2, 3))
        total = total + (rho * error).sum(1).mean()
    return total


def _unit_channels(maps: Tensor) -> Tensor:
    """Each channel of each image (B, C, H, W) over its guarded L2 norm: derivatives are at most 1 / GUARD."""
    return maps * (maps.square().sum((2, 3), keepdim=True) + GUARD**2).rsqrt()
