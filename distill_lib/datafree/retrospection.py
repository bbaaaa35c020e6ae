"""Student Self-Retrospection (arXiv 2306.02368): the student unlearns what one universal perturbation can do to it.

min_theta max_delta KL(S(x) || S(x + delta)), in the last steps of a training. The outer gradient passes through the
inner maximum by the implicit function theorem, whose linear system is solved by a few fixed-point iterations.

The outer loss disturbs a few images of a batch and is the mean over *all* of it, as released: the images that stay as
they are count with a divergence of 0.

Where the facts are silent [ours]: delta lives in the networks' normalised units; the student is in eval mode (its
batch norms must not see x + delta); delta is found on the whole batch, once for a batch of images, the teacher being
constant; the student's batch norms stand still meanwhile; the hypergradient's inner map is taken on the same few
images as the outer loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from distill_lib.datafree.divergence import Gauge
from distill_lib.errors import UsageError, choose

TINY = 1e-12  # under the norm's root: its second derivative at 0 is not a number
MODELS = ("teacher", "student")
PLAIN = Gauge()
PENALTIES = {
    "norm": lambda delta: (delta.square().sum() + TINY).sqrt(),
    "squared": lambda delta: delta.square().sum(),
}


@dataclass(frozen=True)
class RetrospectionConfig:
    """Settings; published where not marked.

    Attributes:
        share: Last share of the training in which it acts: the last 400 or 600 of 80,000 pseudo-batches of ZSKT, 600
            here; the last one or two of 300 epochs of OOD; on GTSRB 2 to 4 %.
        student_lr: The student's learning rate then, constant [ours]; published 1e-4 to 5e-4.
        steps: Adam steps on delta, 10 to 20.
        lr: Of Adam on delta.
        norm: Weight of the penalty on delta.
        penalty: `norm`, delta's L2 norm as in the paper, or `squared`, its square as released.
        found_on: `teacher`, as published, or `student` [ours].
        init: Standard deviation of delta's start. Published is 0, where the divergence has its minimum and only
            rounding errors set the direction; hence a little noise [ours].
        iterations: K of the fixed point.
        step: Of the fixed point's inner gradient step.
        outer: Share of the batch that the outer loss disturbs; the mean is that of the whole batch.
        weight: Of the outer loss beside the KD loss.
        softened: Whether its divergences are measured as the method measures its own (T, T^2, convention of the mean),
            as released; else at T 1, with the batch's mean [ours].
        few: Images of the batch that delta is found on, 0: all, as published; fewer cost less [ours].
        renew: Whether the student's optimiser begins anew, as released; else it keeps its moments [ours], and with them
            steps as small as at the end of the distillation.
    """

    share: float = 0.0075
    student_lr: float = 5e-4
    steps: int = 10
    lr: float = 0.1
    norm: float = 1e-3
    penalty: str = "norm"
    found_on: str = "teacher"
    init: float = 1e-3
    iterations: int = 5
    step: float = 0.1
    outer: float = 0.02
    weight: float = 1.0
    softened: bool = True
    few: int = 0
    renew: bool = False

    def __post_init__(self):
        choose("penalty on delta", self.penalty, PENALTIES)
        choose("model that delta is found on", self.found_on, dict.fromkeys(MODELS))
        if not (0 < self.share <= 1 and 0 < self.outer <= 1 and self.student_lr > 0 and self.lr > 0):
            raise UsageError(
                f"share {self.share}, outer {self.outer}, student_lr {self.student_lr}, lr {self.lr} are impossible; "
                "allowed: shares above 0 and at most 1, learning rates above 0"
            )
        if self.steps < 1 or min(self.iterations, self.few, self.weight) < 0:
            raise UsageError(
                f"steps {self.steps}, iterations {self.iterations}, few {self.few}, weight {self.weight} are "
                "impossible; allowed: steps >= 1, the others >= 0"
            )

    def first(self, turns: int) -> int:
        """The turn, counted from 0, from which it acts: at least the last one of a training."""
        return turns - min(turns, max(1, math.ceil(self.share * turns - 1e-9)))


def disturbed(model: nn.Module, images: Tensor, delta: Tensor, gauge: Gauge = PLAIN) -> Tensor:
    """KL(S(x) || S(x + delta)), mean over the batch.

    Args:
        model: From images in [0, 1] to logits, with the normalisation's `std`.
        images: (B, 3, H, W).
        delta: (1, 3, H, W), in normalised units.
        gauge: How the divergence is measured.
    """
    return gauge(model(images), model(images + model.std * delta)).mean()


def penalty(delta: Tensor, config: RetrospectionConfig) -> Tensor:
    """.001 ||delta||_2, or with its square."""
    return config.norm * PENALTIES[config.penalty](delta)


def inner_loss(
    model: nn.Module, images: Tensor, delta: Tensor, config: RetrospectionConfig, gauge: Gauge = PLAIN
) -> Tensor:
    """What delta minimises: -KL(S(x) || S(x + delta)) + .001 ||delta||_2."""
    return penalty(delta, config) - disturbed(model, images, delta, gauge)


def find_delta(
    model: nn.Module, images: Tensor, config: RetrospectionConfig, source: Generator, gauge: Gauge = PLAIN
) -> Tensor:
    """The universal perturbation (1, 3, H, W) of a batch, by Adam; the model is in eval mode and stays as it is."""
    images = images[: config.few or None]
    shape = (1, *images.shape[1:])
    delta = config.init * torch.randn(shape, generator=source, device=images.device)
    delta.requires_grad_()
    optimiser = torch.optim.Adam([delta], config.lr)
    with torch.no_grad():
        still = model(images)  # x's own logits are constants: one pass for all steps
    for _ in range(config.steps):
        moved = gauge(still, model(images + model.std * delta)).mean()
        delta.grad = torch.autograd.grad(penalty(delta, config) - moved, delta)[0]
        optimiser.step()
    return delta.detach()


def hypergradient(
    outer: Callable[[Tensor], Tensor],
    inner: Callable[[Tensor], Tensor],
    delta: Tensor,
    parameters: Sequence[Tensor],
    iterations: int,
    step: float,
) -> tuple[Tensor, list[Tensor]]:
    """d outer(theta, delta*(theta)) / d theta by fixed-point iteration.

    With Phi(delta) = delta - step d inner / d delta, v <- (dPhi/d delta)^T v + d outer / d delta from v = 0, K times;
    then d outer / d theta + (dPhi/d theta)^T v. At a stationary delta this equals the gradient through K unrolled inner
    steps; K = 0 leaves the direct gradient.

    Args:
        outer: Of delta, a scalar that also depends on the parameters.
        inner: Likewise.
        delta: The inner problem's solution.
        parameters: theta.
        iterations: K.
        step: Of Phi.

    Returns:
        The outer loss, detached, and a gradient for each parameter (zeros where there is none).
    """
    delta = delta.detach().requires_grad_()
    value = outer(delta)
    pull, *direct = torch.autograd.grad(value, [delta, *parameters], allow_unused=True, materialize_grads=True)
    if not iterations:
        return value.detach(), direct
    mapped = delta - step * torch.autograd.grad(inner(delta), delta, create_graph=True)[0]
    along = torch.zeros_like(delta)
    for _ in range(iterations):
        along = torch.autograd.grad(mapped, delta, grad_outputs=along, retain_graph=True)[0] + pull
    through = torch.autograd.grad(mapped, parameters, grad_outputs=along, allow_unused=True, materialize_grads=True)
    return value.detach(), [one + two for one, two in zip(direct, through, strict=True)]


def retrospect(
    student: nn.Module, images: Tensor, delta: Tensor, config: RetrospectionConfig, gauge: Gauge = PLAIN
) -> Tensor:
    """A scalar whose value is the outer loss and whose gradient, by the student, is the hypergradient.

    So it is one more term beside the KD loss, in any training loop.

    Args:
        student: Its mode is the same before and after.
        images: (B, 3, H, W), of which the first `outer` share is disturbed; 2 of 128 at the published .02.
        delta: From `find_delta`.
        config: Settings.
        gauge: How the divergence is measured.
    """
    few = images[: max(1, int(config.outer * len(images)))]
    share = len(few) / len(images)
    parameters = [each for each in student.parameters() if each.requires_grad]
    was_training = student.training
    student.eval()
    value, gradients = hypergradient(
        lambda delta: share * disturbed(student, few, delta, gauge),
        lambda delta: inner_loss(student, few, delta, config, gauge),
        delta,
        parameters,
        config.iterations,
        config.step,
    )
    student.train(was_training)
    lever = sum((each * gradient).sum() for each, gradient in zip(parameters, gradients, strict=True))
    return config.weight * (value + lever - lever.detach())
