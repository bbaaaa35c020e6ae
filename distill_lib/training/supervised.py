"""Supervised training of a classifier: cross-entropy on augmented images, by the one loop."""

from dataclasses import dataclass, field, fields

from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.vision.crop_flip import CropFlip


@dataclass(frozen=True)
class SupervisedConfig:
    """Settings of a supervised training.

    Attributes:
        schedule: Length, batch, optimiser.
        augmentation: Of the images.
    """

    schedule: Schedule
    augmentation: CropFlip = field(default_factory=CropFlip)


@dataclass(frozen=True)
class SteppedSchedule(Schedule):
    """A schedule whose learning rate falls by a factor at a few points, as the CIFAR schedules of supervised training.

    Attributes:
        drops: When, as shares of the training, ascending: a shorter training keeps its shape.
        factor: Of each fall.
    """

    drops: tuple[float, ...] = ()
    factor: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        inside = all(0 < each < 1 for each in self.drops)
        if not (inside and list(self.drops) == sorted(self.drops) and self.factor > 0):
            raise UsageError(
                f"drops {self.drops} by factor {self.factor} are impossible; "
                "allowed: shares between 0 and 1 in ascending order, factor above 0"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0: that of the plain schedule, after the falls so far."""
        fallen = sum(step >= round(drop * self.steps) for drop in self.drops)
        return super().rate(step) * self.factor**fallen


def sgd_schedule(count: int, epochs: float = 200, batch: int = 128, lr: float = 0.1, **others) -> Schedule:
    """The published schedule of supervised teachers (arXiv 2306.02368), for `count` images.

    SGD .1, momentum .9, weight decay 5e-4, batch 128, cosine, 200 epochs; what is left of an epoch under one batch is
    dropped, as the loop does.

    Args:
        count: Images in the training set.
        epochs: Passes over it.
        batch: Images a step.
        lr: Learning rate at the start.
        **others: Further fields of `Schedule`.
    """
    if count < 2 or not epochs > 0:
        raise UsageError(f"{epochs} epochs over {count} images are impossible; allowed: epochs > 0, images >= 2")
    steps = max(1, round(epochs * max(1, count // batch)))
    settings = {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "decay": "cosine"} | others
    return Schedule(steps, batch, lr=lr, **settings)


def stepped_schedule(
    count: int, epochs: float = 160, drops: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1, **others
) -> SteppedSchedule:
    """The published schedule of the undistillable teachers and their students, for `count` images.

    SGD .1, momentum .9, weight decay 5e-4, batch 128; by default as on CIFAR-10: 160 epochs, x .1 at 80 and 120.

    Args:
        count: Images in the training set.
        epochs: Passes over it.
        drops: See `SteppedSchedule`.
        factor: Likewise.
        **others: Further settings of `sgd_schedule`.
    """
    plain = sgd_schedule(count, epochs, **({"decay": "constant"} | others))
    settings = {each.name: getattr(plain, each.name) for each in fields(plain)}
    return SteppedSchedule(**settings, drops=drops, factor=factor)


def train_classifier(
    model: nn.Module, images: Tensor, labels: Tensor, config: SupervisedConfig, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Train `model` in place; it is left in eval mode.

    Args:
        model: From images (B, 3, H, W) in [0, 1] to logits (B, classes).
        images: uint8 (N, 3, H, W), on the model's device, triggers already on them.
        labels: int64 (N,), likewise.
        config: Settings.
        seed: Of order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The training log, with the term `cross_entropy`.

    Raises:
        UsageError: If images and labels differ in number or an image has no label.
    """
    if len(images) != len(labels) or not len(labels) or int(labels.min()) < 0:
        raise UsageError(
            f"{len(images)} images and {len(labels)} labels cannot be learnt; allowed: one label, from 0, an image"
        )
    modules = nn.ModuleDict({"model": model}).train()

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        return {"cross_entropy": cross_entropy(model(config.augmentation(images[rows], generator)), labels[rows])}

    log = train(modules, objective, len(images), config.schedule, seed, watch)
    model.eval()
    return log
