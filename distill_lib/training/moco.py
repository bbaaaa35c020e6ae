"""MoCo v2 (Chen et al., arXiv 2003.04297, 2020), a pre-training beside SimCLR."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.training.momentum import follow, follower
from distill_lib.training.simclr import two_views
from distill_lib.vision.augment import Augmentation


@dataclass(frozen=True)
class MoCoConfig:
    """Settings of a MoCo v2 training.

    Attributes:
        schedule: Length, batch, optimiser.
        temperature: tau of the contrastive loss; 0.2 in MoCo v2.
        momentum: Of the key encoder; 0.999 on ImageNet, 0.99 here, as short trainings on small sets need [ours].
        queue: Keys kept as negatives; 65,536 on ImageNet, 4,096 here [ours].
        projection: Hidden and output width of the head, which has no batch norm.
        augmentation: Of the views: SimCLR's, so that pre-trainings differ in the algorithm alone [ours].
    """

    schedule: Schedule
    temperature: float = 0.2
    momentum: float = 0.99
    queue: int = 4096
    projection: tuple[int, int] = (512, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        if not 0 <= self.momentum <= 1 or self.queue < self.schedule.batch or not self.temperature > 0:
            raise UsageError(
                f"momentum {self.momentum}, queue {self.queue}, temperature {self.temperature} are impossible; "
                f"allowed: momentum 0 to 1, queue >= the batch of {self.schedule.batch}, temperature > 0"
            )


class Head(nn.Sequential):
    """D -> hidden (ReLU) -> output, thrown away after training."""

    def __init__(self, dimension: int, hidden: int = 512, output: int = 128, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            super().__init__(nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, output))


class Queue(nn.Module):
    """The last keys, first in, first out; buffers, so that a checkpoint holds them.

    Attributes:
        keys: (K, D), of length 1; random at first.
        start: int64 (1,): the row of the oldest key, which the next one replaces.
    """

    def __init__(self, length: int, dimension: int, seed: int = 0):
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.register_buffer("keys", normalize(torch.randn(length, dimension, generator=source), dim=1))
        self.register_buffer("start", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by `keys` (B, D), B at most K, in their order."""
        rows = (self.start + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys[rows] = keys
        self.start.copy_((self.start + len(keys)) % len(self.keys))


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """MoCo's loss (He et al., CVPR 2020, equation 1): each query is to pick its own key among that and the negatives.

    Args:
        queries: (B, D), of length 1.
        keys: (B, D), of length 1, in the same order.
        negatives: (K, D), of length 1.
        temperature: tau.

    Returns:
        A scalar: log(1 + K exp(-1 / tau)) where keys agree and negatives are at right angles.
    """
    own = (queries * keys).sum(1, keepdim=True)
    scores = torch.cat([own, queries @ negatives.T], 1) / temperature
    return cross_entropy(scores, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))


def moco(
    encoder: nn.Module, images: Tensor, config: MoCoConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train `encoder`, the query encoder, in place on unlabelled images.

    A step moves the key encoder towards the query encoder, contrasts the first views with the keys of the second ones
    and puts these into the queue. The paper shuffles images between devices, lest batch norm tell partners apart; on
    one device queries and keys go through separate passes unshuffled [ours].

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: uint8 (N, 3, H, W) on the encoder's device.
        config: Settings.
        seed: Of head, queue, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log.
    """
    query = nn.Sequential(encoder, Head(encoder.dimension, *config.projection, seed=seed).to(images.device))
    key, queue = follower(query), Queue(config.queue, config.projection[1], seed).to(images.device)
    modules = nn.ModuleDict({"query": query, "key": key, "queue": queue}).train()

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        first, second = two_views(images, rows, config.augmentation, generator).chunk(2)
        queries = normalize(query(first), dim=1)
        with torch.no_grad():
            follow(key, query, config.momentum)
            keys = normalize(key(second), dim=1)
        loss = info_nce(queries, keys, queue.keys.clone(), config.temperature)  # the queue changes before backward
        queue.push(keys)
        return {"info_nce": loss}

    log = train(modules, objective, len(images), config.schedule, seed, watch)
    encoder.eval()
    return log
