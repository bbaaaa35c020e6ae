"""Fine-pruning (Liu et al., RAID 2018): channels dormant on clean data are removed, then the rest is fine-tuned.

Carried over to encoders [ours]: the channels are those of the last stage; without labels there is no accuracy at which
to stop, so a share to remove is given; SimCLR on the clean images is the fine-tuning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError
from distill_lib.training.loop import Watch
from distill_lib.training.simclr import SimCLRConfig, simclr
from distill_lib.vision.encoders import STAGES
from distill_lib.vision.features import hooked, to_unit

LAST = STAGES[-1]


@dataclass(frozen=True)
class FinePruningConfig:
    """Settings of the defence.

    Attributes:
        finetuning: SimCLR's, after the pruning.
        pruned: Share of the last stage's channels that is removed, above 0 and below 1; 0.2 is ours.
    """

    finetuning: SimCLRConfig
    pruned: float = 0.2

    def __post_init__(self):
        if not 0 < self.pruned < 1:
            raise UsageError(f"a pruned share of {self.pruned} is not allowed; it must be above 0 and below 1")


def fine_pruning(
    encoder: nn.Module, share: Tensor, config: FinePruningConfig, seed: int, watch: Watch | None = None
) -> tuple[list[dict[str, float]], Tensor]:
    """Prune and fine-tune a suspicious encoder in place; also how the teacher `pruned` is made.

    Which channels go depends on the encoder and the images alone, so that a resumed run removes the same.

    Args:
        encoder: The suspicious encoder (its last stage is made of residual blocks, see `removals`).
        share: The defender's clean images, uint8 (N, 3, H, W), on the encoder's device.
        config: Settings.
        seed: Of the fine-tuning.
        watch: Reports and checkpoints.

    Returns:
        The training log, and the channels removed, int64, ascending.

    Raises:
        UsageError: If the share of channels is less than one channel.
    """
    activity = mean_activity(encoder, share)
    count = int(config.pruned * len(activity))
    if not count:
        raise UsageError(
            f"a pruned share of {config.pruned} is no channel of {len(activity)}; "
            f"allowed: {1 / len(activity):.3g} or more, below 1"
        )
    channels = activity.topk(count, largest=False).indices.sort().values
    prune(encoder, channels)
    with kept_pruned(encoder, channels):
        log = simclr(encoder, share, config.finetuning, seed, watch)
    return log, channels.cpu()


@torch.no_grad()
def mean_activity(encoder: nn.Module, images: Tensor, batch: int = 256) -> Tensor:
    """Mean output of each channel of the last stage over images (N, 3, H, W), uint8, and places; float64 (C,)."""
    encoder.eval()
    total = 0.0
    with hooked(encoder, [LAST]) as maps:
        for part in images.split(batch):
            encoder(to_unit(part))
            total = total + maps[LAST].double().mean((2, 3)).sum(0)
    return total / len(images)


def removals(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms whose outputs add up to the last stage's channels: each block's last one and its shortcut's.

    With weight and bias 0 in all of them, a channel is 0 after every block, in train and in eval mode.
    """
    norms = []
    for block in encoder.get_submodule(LAST):
        norms.append([each for each in block.children() if isinstance(each, nn.BatchNorm2d)][-1])
        norms += [each for each in block.shortcut.modules() if isinstance(each, nn.BatchNorm2d)]
    return norms


@torch.no_grad()
def prune(encoder: nn.Module, channels: Tensor) -> None:
    """Remove channels (int64) of the last stage, in place; the encoder's output keeps its length, with zeros there."""
    for norm in removals(encoder):
        norm.weight[channels] = 0
        norm.bias[channels] = 0


@contextmanager
def kept_pruned(encoder: nn.Module, channels: Tensor) -> Iterator[None]:
    """While open, no training brings removed channels back: a mask holds their gradients at 0.

    A parameter at 0 whose gradient is 0 stays at 0 under SGD and Adam, weight decay and momentum included.
    """
    parameters = [each for norm in removals(encoder) for each in (norm.weight, norm.bias)]
    handles = [each.register_hook(lambda gradient: gradient.index_fill(0, channels, 0.0)) for each in parameters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
