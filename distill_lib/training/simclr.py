"""SimCLR (Chen et al., ICML 2020): the pre-training, and every contrastive repair after it."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from distill_lib.training.contrastive import nt_xent
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.vision.augment import Augmentation

VIEWS = 2  # of each image a step


@dataclass(frozen=True)
class SimCLRConfig:
    """Settings of a SimCLR training.

    Attributes:
        schedule: Length, batch, optimiser.
        temperature: Of NT-Xent.
        projection: Hidden width and output width of the projection head (BadEncoder: 512 and 128).
        augmentation: Of the views.
    """

    schedule: Schedule
    temperature: float = 0.5
    projection: tuple[int, int] = (512, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)


class Projector(nn.Sequential):
    """D -> hidden (batch norm, ReLU) -> output, thrown away after training; in the encoder's precision."""

    def __init__(self, dimension: int, hidden: int = 512, output: int = 128, seed: int = 0, autocast: bool = False):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            super().__init__(
                nn.Linear(dimension, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, output)
            )
        self.autocast = autocast

    def forward(self, features: Tensor) -> Tensor:
        """Projections (B, output) of features (B, D), float32: losses are computed in it."""
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.autocast):
            projections = super().forward(features)
        return projections.float()


def two_views(images: Tensor, rows: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    """Views (2B, 3, H, W): the first B and the last B are of the same images, augmented independently.

    Args:
        images: uint8 (N, 3, H, W).
        rows: int64 (B,): which of them.
        augmentation: Draws a view in [0, 1] of each.
        generator: Where it draws from, on the images' device.
    """
    return augmentation(images[rows].repeat(VIEWS, 1, 1, 1), generator)


def simclr(
    encoder: nn.Module, images: Tensor, config: SimCLRConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train `encoder` in place on unlabelled images.

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: uint8 (N, 3, H, W) on the encoder's device.
        config: Settings.
        seed: Of projector, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log.
    """
    projector = Projector(encoder.dimension, *config.projection, seed, encoder.autocast).to(images.device)
    modules = nn.ModuleDict({"encoder": encoder, "projector": projector}).train()

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        first, second = projector(encoder(two_views(images, rows, config.augmentation, generator))).chunk(2)
        return {"nt_xent": nt_xent(first, second, config.temperature)}

    log = train(modules, objective, len(images), config.schedule, seed, watch)
    encoder.eval()
    return log
