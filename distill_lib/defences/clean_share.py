"""The clean share alone: what the defender gets who throws the suspicious encoder away."""

from torch import Tensor, nn

from distill_lib.training.loop import Watch
from distill_lib.training.simclr import SimCLRConfig, simclr


def clean_share(
    encoder: nn.Module, share: Tensor, config: SimCLRConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train a fresh encoder by SimCLR on the defender's clean images, in place.

    Nothing of the suspicious encoder is in it, so it has no backdoor: a defence is worth its risk only where it is more
    accurate than this at equal total views. Also how the teacher `scratch` and the student `warmup` are made.

    Args:
        encoder: Of random weights, from a seed that the attacked encoder did not start from.
        share: The defender's clean images, uint8 (N, 3, H, W), on the encoder's device.
        config: Settings.
        seed: Of projector, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log.
    """
    return simclr(encoder, share, config, seed, watch)
