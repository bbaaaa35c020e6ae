"""Distillation of an encoder on clean, unlabelled images (arXiv 2403.03846)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from distill_lib.distillation.losses import Loss, Representation, compute, prepare, resolve
from distill_lib.training.contrastive import nt_xent
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.training.simclr import Projector, two_views
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.features import collect, to_unit


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
    """

    schedule: Schedule
    loss: str = "at"
    weight: float | None = None
    nt_xent_weight: float = 1.0
    temperature: float = 0.5
    projection: tuple[int, int] = (512, 128)
    augmentation: Augmentation = field(default_factory=Augmentation)


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
    does).

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
    loss = _loss(student, images, config, seed)
    modules = nn.ModuleDict({"student": student, "projector": projector}).train()
    if isinstance(loss.function, nn.Module):  # a loss with parameters of its own is trained with the student
        modules["loss"] = loss.function.to(images.device)
    objective = _objective(teacher, student, projector, loss, images, config)
    log = train(modules, objective, len(images), config.schedule, seed, watch)
    student.eval()
    return log


@torch.no_grad()
def _loss(student: nn.Module, images: Tensor, config: DistilConfig, seed: int) -> Loss:
    maps = collect(student.eval(), to_unit(images[:1]))[1]
    return prepare(resolve(config.loss, config.weight), {path: each.shape[1] for path, each in maps.items()}, seed)


def _objective(teacher, student, projector, loss: Loss, images: Tensor, config: DistilConfig) -> Callable:
    contrastive = config.nt_xent_weight > 0

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        if contrastive:
            views = two_views(images, rows, config.augmentation, generator)
        else:
            views = config.augmentation(images[rows], generator)
        with torch.no_grad():
            taught = Representation(*collect(teacher, views[: len(rows)]))
        output, maps = collect(student, views)
        first = {path: each[: len(rows)] for path, each in maps.items()}
        terms = compute(loss, Representation(output[: len(rows)], first), taught, generator)
        if contrastive:
            one, two = projector(output).chunk(2)
            terms["nt_xent"] = config.nt_xent_weight * nt_xent(one, two, config.temperature)
        return terms

    return objective
