"""BYOL (Grill et al., NeurIPS 2020), a pre-training beside SimCLR, without negatives."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.training.momentum import follow, follower
from distill_lib.training.simclr import Projector, two_views
from distill_lib.vision.augment import Augmentation


@dataclass(frozen=True)
class BYOLConfig:
    """Settings of a BYOL training.

    Attributes:
        schedule: Length, batch, optimiser.
        momentum: Of the target network at the start, rising to 1 by a cosine; 0.996 in the paper.
        projection: Hidden and output width of projector and predictor; 4096 and 256 in the paper, SimCLR's here [ours].
        augmentation: Of the views: SimCLR's, so that pre-trainings differ in the algorithm alone [ours].
    """

    schedule: Schedule
    momentum: float = 0.996
    projection: tuple[int, int] = (512, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"a momentum of {self.momentum} is impossible; allowed: 0 to 1")


class Clock(nn.Module):
    """Counts the steps in a buffer, so that a checkpoint holds how far the momentum has risen.

    Attributes:
        step: int64 (); steps begun.
    """

    def __init__(self, base: float, steps: int):
        super().__init__()
        self.base, self.steps = base, max(1, steps)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def momentum(self) -> Tensor:
        """1 - (1 - base) (cos(pi k / K) + 1) / 2 at step k of K (paper, section 3.3), float32 ()."""
        return 1 - (1 - self.base) * (torch.cos(torch.pi * self.step / self.steps) + 1) / 2


def regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of |p - z|^2 with p and z of length 1, that is 2 - 2 cos (paper, equation 2).

    Args:
        predictions: (B, D).
        targets: (B, D), detached here.
    """
    predictions, targets = normalize(predictions.float(), dim=1), normalize(targets.detach().float(), dim=1)
    return 2 - 2 * (predictions * targets).sum(1).mean()


def byol(
    encoder: nn.Module, images: Tensor, config: BYOLConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train `encoder`, that of the online network, in place on unlabelled images.

    L = |q(o(v1)) - t(v2)|^2 + |q(o(v2)) - t(v1)|^2 on unit vectors: the online network o (encoder, projector), through
    its predictor q, foretells what the target network t, a moving average of o, makes of the other view. The average is
    taken at the start of a step, which is the end of the one before. Both views go through a network in one pass, as
    SimCLR's do here [ours].

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: uint8 (N, 3, H, W) on the encoder's device.
        config: Settings.
        seed: Of projector, predictor, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log.
    """
    projector = Projector(encoder.dimension, *config.projection, seed, encoder.autocast).to(images.device)
    online = nn.Sequential(encoder, projector)
    predictor = Projector(config.projection[1], *config.projection, seed + 1, encoder.autocast).to(images.device)
    target, clock = follower(online), Clock(config.momentum, config.schedule.steps).to(images.device)
    modules = nn.ModuleDict({"online": online, "predictor": predictor, "target": target, "clock": clock}).train()

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        views = two_views(images, rows, config.augmentation, generator)
        with torch.no_grad():
            follow(target, online, clock.momentum())
            clock.step += 1
            first_target, second_target = target(views).chunk(2)
        first, second = predictor(online(views)).chunk(2)
        return {"byol": regression(first, second_target) + regression(second, first_target)}

    log = train(modules, objective, len(images), config.schedule, seed, watch)
    encoder.eval()
    return log
