"""Distillation of an encoder on clean, unlabelled images (arXiv 2403.03846)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor, nn

from distill_lib.distillation.losses import Loss, Representation, compute, prepare, resolve
from distill_lib.errors import UsageError
from distill_lib.training.contrastive import nt_xent
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.training.simclr import VIEWS, Projector, two_views
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import STAGES
from distill_lib.vision.features import collect, to_unit

WEIGHED_ON = 512  # clean images on which a loss that weighs its stages looks at the teacher, in chunks
CHUNK = 128


@dataclass(frozen=True)
class DistilConfig:
    """Settings of a distillation.

    Attributes:
        schedule: Length, batch, optimiser.
        loss: Name in the registry of losses (`at`, `cosine`, `kd:released`).
        weight: Of the loss; None: its own default.
        nt_xent_weight: Of the student's own contrastive objective; 0 leaves it out.
        temperature: Of NT-Xent.
        projection: Of the student's projector.
        augmentation: Of the views.
        mixup: Parameter of Beta(mixup, mixup), from which the share of another image in a view is drawn; 0: no mixup.
        cosine_weight: Of the feature cosine beside the loss; 0: the loss's own.
    """

    schedule: Schedule
    loss: str = "at"
    weight: float | None = None
    nt_xent_weight: float = 1.0
    temperature: float = 0.5
    projection: tuple[int, int] = (512, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: float = 0.0
    cosine_weight: float = 0.0

    def __post_init__(self):
        if not 0 <= self.mixup < math.inf:
            raise UsageError(f"mixup {self.mixup} is impossible; allowed: 0 (off) or a positive number")

    @property
    def views_per_image(self) -> int:
        """Views of an image that the student sees in a step: what a budget of views has to pay for."""
        if self.nt_xent_weight <= 0:
            return 1
        return VIEWS + 1 if self.mixup else VIEWS


def distil(
    teacher: nn.Module,
    student: nn.Module,
    images: Tensor,
    config: DistilConfig,
    seed: int,
    watch: Watch | None = None,
) -> list[dict[str, float]]:
    """Train `student` in place to imitate `teacher` on clean images.

    L = nt_xent_weight NTXent(student(v1), student(v2)) + sum_l w_l D(F_S^l(v1), F_T^l(v1))
    + w_5 (1 - mean cos(f_S(v1), f_T(v1))), with v1 and v2 two SimCLR views and F^l
    the outputs of the four stages. The teacher is in eval mode and its pass records no gradients (in the release it
    does). With mixup, teacher and student see v1 mixed within the batch; NT-Xent keeps the plain views, since two mixed
    images share content without being partners, at the price of a third view in the student's pass.

    Args:
        teacher: Frozen encoder.
        student: Encoder of the same architecture.
        images: Clean, unlabelled, uint8 (N, 3, H, W), on the encoders' device.
        config: Settings.
        seed: Of projector, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The log, one column a term.
    """
    teacher.eval()
    projector = Projector(student.dimension, *config.projection, seed, student.autocast).to(images.device)
    loss = _loss(teacher, student, images, config, seed)
    modules = nn.ModuleDict({"student": student, "projector": projector}).train()
    if isinstance(loss.function, nn.Module):  # a loss with parameters of its own is trained with the student
        modules["loss"] = loss.function.to(images.device)
    objective = _objective(teacher, student, projector, loss, images, config)
    log = train(modules, objective, len(images), config.schedule, seed, watch)
    student.eval()
    return log


@torch.no_grad()
def _loss(teacher: nn.Module, student: nn.Module, images: Tensor, config: DistilConfig, seed: int) -> Loss:
    maps = collect(student.eval(), to_unit(images[:1]))[1]
    channels = {path: each.shape[1] for path, each in maps.items()}
    loss = resolve(config.loss, config.weight)
    loss = replace(loss, cosine_weight=config.cosine_weight or loss.cosine_weight)
    return prepare(loss, channels, seed, lambda: _sample(teacher, images, seed))


def _sample(teacher: nn.Module, images: Tensor, seed: int) -> Representation:
    """The teacher's view of random clean images: outputs (N, D) and maps averaged over places, (N, C, 1, 1)."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:WEIGHED_ON]
    outputs, maps = [], {stage: [] for stage in STAGES}
    for rows in order.to(images.device).split(CHUNK):
        output, found = collect(teacher, to_unit(images[rows]))
        outputs.append(output)
        for stage, each in found.items():
            maps[stage].append(each.float().mean((2, 3), keepdim=True))
    return Representation(torch.cat(outputs), {stage: torch.cat(each) for stage, each in maps.items()})


def _objective(teacher, student, projector, loss: Loss, images: Tensor, config: DistilConfig) -> Callable:
    contrastive = config.nt_xent_weight > 0
    shares = beta_quantiles(config.mixup).to(images.device) if config.mixup else None

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        if contrastive:
            views = two_views(images, rows, config.augmentation, generator)
        else:
            views = config.augmentation(images[rows], generator)
        if shares is not None:
            mixed = mix(views[: len(rows)], shares, generator)
            views = torch.cat([mixed, views]) if contrastive else mixed
        with torch.no_grad():
            taught = Representation(*collect(teacher, views[: len(rows)]))
        output, maps = collect(student, views)
        first = {path: each[: len(rows)] for path, each in maps.items()}
        terms = compute(loss, Representation(output[: len(rows)], first), taught, generator)
        if contrastive:
            one, two = projector(output[-VIEWS * len(rows) :]).chunk(2)
            terms["nt_xent"] = config.nt_xent_weight * nt_xent(one, two, config.temperature)
        return terms

    return objective


def mix(views: Tensor, shares: Tensor, generator: Generator) -> Tensor:
    """Batch mixup (Zhang et al., ICLR 2018): one share for all, each view with another of the batch.

    Args:
        views: float (B, 3, H, W).
        shares: Equally likely shares of a view's own content, (Q,), of which one is drawn.
        generator: Draws the share and the partners.

    Returns:
        share * views + (1 - share) * partners, in the views' memory format.
    """
    # Both draws stay on the device: asking for the numbers would make a GPU wait at every step.
    share = shares[torch.randint(len(shares), (1,), generator=generator, device=views.device)].view(1, 1, 1, 1)
    partners = torch.randperm(len(views), generator=generator, device=views.device)
    return torch.lerp(views[partners], views, share)


def beta_quantiles(parameter: float, count: int = 1024) -> Tensor:
    """`count` equally likely values of Beta(parameter, parameter), ascending, float32.

    Drawing one of them by a torch generator keeps every random number of a training in that generator, which torch's
    own Beta distribution cannot.
    """
    from scipy.stats import beta  # half a second, for mixup alone

    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.from_numpy(beta.ppf(middles.numpy(), parameter, parameter)).float()
