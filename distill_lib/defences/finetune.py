"""Fine-tuning: the suspicious encoder goes on learning, on the defender's clean images."""

from torch import Tensor, nn

from distill_lib.training.loop import Watch
from distill_lib.training.simclr import SimCLRConfig, simclr


def finetune(
    encoder: nn.Module, share: Tensor, config: SimCLRConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train a suspicious encoder further by SimCLR, in place.

    The defender has no labels, so SimCLR's objective stands where supervised fine-tuning has the cross-entropy; batch
    norm re-estimates its statistics on the way. Also how the teacher `finetuned` is made (MIMIC's release: Adam 1e-3).

    Args:
        encoder: The suspicious encoder.
        share: The defender's clean images, uint8 (N, 3, H, W), on the encoder's device.
        config: Settings.
        seed: Of projector, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log.
    """
    return simclr(encoder, share, config, seed, watch)
