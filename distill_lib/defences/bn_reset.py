"""Re-estimating the statistics of batch norm on clean images, and nothing else.

BadEncoder injects with frozen statistics, so its weights rely on them; every training-based defence re-estimates them
in passing. This defence alone tells how much of such a defence's effect is owed to that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distill_lib.errors import UsageError
from distill_lib.training.device import generator
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.features import to_unit


@dataclass(frozen=True)
class BNResetConfig:
    """Settings of the re-estimation.

    Attributes:
        batch: Images a forward at most; a pass takes all images, in batches of one size, give or take an image.
        passes: Over the images, each in an order of its own.
        augmentation: Of the views that are averaged over, such as those of pre-training; None: the images as they are,
            as the downstream task will see them.
    """

    batch: int = 256
    passes: int = 1
    augmentation: Augmentation | None = None

    def __post_init__(self):
        if self.batch < 2 or self.passes < 1:
            raise UsageError(
                f"batch {self.batch}, passes {self.passes} are impossible; allowed: batch >= 2, passes >= 1"
            )


@torch.no_grad()
def bn_reset(encoder: nn.Module, images: Tensor, config: BNResetConfig | None = None, seed: int = 0) -> int:
    """Replace every running mean and variance of `encoder` by the plain average over the batches, in place.

    No weight changes. The layers are estimated together, in train mode: each sees what the re-estimated ones below it
    will give it.

    Args:
        encoder: With batch-norm layers; in eval mode afterwards.
        images: Clean images, uint8 (N, 3, H, W), N >= 2, on the encoder's device.
        config: Settings.
        seed: Of order and augmentation.

    Returns:
        The number of batches averaged over.

    Raises:
        UsageError: If there are fewer than 2 images.
    """
    config = config or BNResetConfig()
    if len(images) < 2:
        raise UsageError(f"batch norm cannot be re-estimated on {len(images)} images; allowed: 2 or more")
    source, batches = generator(seed, images.device), 0
    parts = min(-(-len(images) // config.batch), len(images) // 2)  # a batch has 2 images at least
    with _averaging(encoder):
        for _ in range(config.passes):
            order = torch.randperm(len(images), generator=source, device=images.device)
            for rows in order.tensor_split(parts):
                part = images[rows]
                encoder(config.augmentation(part, source) if config.augmentation else to_unit(part))
                batches += 1
    return batches


@contextmanager
def _averaging(encoder: nn.Module) -> Iterator[None]:
    """While open, batch norm forgets what it knew and takes the cumulative average; eval mode afterwards."""
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for the cumulative average
    encoder.eval()
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        encoder.eval()
