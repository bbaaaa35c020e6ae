"""The distillation losses: one small file each, one registry, one function that weighs and names their terms.

A loss is a function `(student, teacher, ...) -> scalar` of two `Representation`s of the same images,
differentiable in the student alone. To add one: write it in its own file and give it a row in `LOSSES`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor, nn

from distill_lib.distillation.losses.afd import LearnedAFD, afd, afd_released
from distill_lib.distillation.losses.at import at
from distill_lib.distillation.losses.cc import cc, cc_released
from distill_lib.distillation.losses.cosine import cosine
from distill_lib.distillation.losses.fitnet import fitnet
from distill_lib.distillation.losses.kd import kd, kd_released
from distill_lib.distillation.losses.mimic import mimic_weights
from distill_lib.distillation.losses.representation import Representation
from distill_lib.distillation.losses.sp import sp
from distill_lib.errors import UsageError, choose
from distill_lib.vision.encoders import STAGES

__all__ = ["LOSSES", "Loss", "Representation", "compute", "prepare", "resolve"]


@dataclass(frozen=True)
class Loss:
    """A loss and its weights in the objective of arXiv 2403.03846.

    Attributes:
        name: As in options and tables, `at` or `at:released`.
        function: (student, teacher) -> scalar, with `stages=` if it has any and `generator=` if it draws.
            None: the loss is only its cosine term, or is built first (`build`).
        weight: Of the function; on losses over stages, of each stage.
        cosine_weight: Of the feature cosine beside it.
        stages: Whose maps it sees; empty for losses on the encoder's output.
        variants: Others of the same family, by what follows the colon.
        build: (channels of each stage, seed) -> module, where the loss has parameters of its own.
        draws: Whether it needs a random generator at each call.
        relative: Weight of each stage in units of `weight`, in the order of `stages`; empty: all are 1.
        weigh: (teacher's representation of some clean images, stages) -> `relative`, where the teacher decides it.
    """

    name: str
    function: Callable[..., Tensor] | None
    weight: float
    cosine_weight: float = 0.0
    stages: tuple[str, ...] = ()
    variants: Mapping[str, "Loss"] = field(default_factory=dict)
    build: Callable[[Mapping[str, int], int], nn.Module] | None = None
    draws: bool = False
    relative: tuple[float, ...] = ()
    weigh: Callable[[Representation, tuple[str, ...]], tuple[float, ...]] | None = None

    @property
    def term(self) -> str:
        """Name of its term in logs: the family's."""
        return self.name.partition(":")[0]


def _family(loss: Loss, **variants: Loss) -> Loss:
    return replace(loss, variants=variants)


# Weights of the corrected losses are starting values, in common use for supervised distillation; a study
# chooses its own on validation images. The released ones, 1000 on each stage, fit the release's own faults.
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        _family(
            Loss("kd", kd, 1.0),
            released=Loss("kd:released", kd_released, 1000.0, stages=("stage1",)),
        ),
        _family(
            Loss("sp", sp, 3000.0, stages=("stage4",)),
            released=Loss("sp:released", None, 0.0, cosine_weight=1.0),  # never calls SP
        ),
        _family(
            Loss("fitnet", fitnet, 100.0, stages=STAGES),
            released=Loss("fitnet:released", fitnet, 1000.0, stages=STAGES),
        ),
        _family(
            Loss("cc", cc, 0.02),
            released=Loss("cc:released", cc_released, 1000.0, stages=STAGES),
        ),
        _family(
            Loss("at", at, 1000.0, stages=STAGES),
            released=Loss("at:released", at, 1000.0, stages=STAGES),
            nad=Loss("at:nad", at, 1000.0, stages=STAGES[1:], relative=(0.5, 1.0, 1.0)),  # 500, 1000, 1000
        ),
        _family(
            Loss("afd", afd, 1000.0, stages=STAGES),
            learned=Loss("afd:learned", None, 1000.0, stages=STAGES, build=LearnedAFD),
            released=Loss("afd:released", afd_released, 1000.0, stages=STAGES, draws=True),
        ),
        Loss("cosine", cosine, 1.0),
        Loss("mimic", at, 1000.0, cosine_weight=1.0, stages=STAGES, weigh=mimic_weights),
    )
}


def resolve(name: str, weight: float | None = None) -> Loss:
    """The loss of a name such as `at` or `at:released`.

    Args:
        name: Family, or family and variant.
        weight: Of its function, instead of the registry's; handing in the registry's own changes nothing.

    Raises:
        UsageError: If there is no such loss, the weight is negative or not finite, or has nothing to scale.
    """
    names = {each.name: each for loss in LOSSES.values() for each in (loss, *loss.variants.values())}
    loss = choose("loss", name, names)
    if weight is None:
        return loss
    if not (math.isfinite(weight) and weight >= 0):
        raise UsageError(f"weight {weight} of loss {name!r} is impossible; allowed: 0 or a positive number")
    if weight and loss.function is None and loss.build is None:
        raise UsageError(f"loss {name!r} is its cosine term alone, so weight {weight} is impossible; allowed: 0")
    return replace(loss, weight=weight)


def prepare(
    loss: Loss, channels: Mapping[str, int], seed: int, taught: Callable[[], Representation] | None = None
) -> Loss:
    """The loss with its own parameters built and its stages weighed; every other loss as it is.

    Where the result's `function` is an `nn.Module`, train it with the student, on the student's device.

    Args:
        loss: From `resolve`.
        channels: Channels of each stage's map; more stages than the loss sees do no harm.
        seed: Of the parameters.
        taught: Gives the teacher's representation of some hundreds of clean images; called for losses that `weigh`.

    Raises:
        ValueError: If the loss weighs its stages by the teacher and `taught` is missing.
    """
    if loss.weigh is not None:
        if taught is None:
            raise ValueError(f"loss {loss.name!r} weighs its stages by the teacher: hand in its representation")
        return replace(loss, relative=loss.weigh(taught(), loss.stages))
    if loss.build is None:
        return loss
    return replace(loss, function=loss.build({stage: channels[stage] for stage in loss.stages}, seed))


def compute(
    loss: Loss, student: Representation, teacher: Representation, generator: Generator | None = None
) -> dict[str, Tensor]:
    """The loss's terms, already weighted, by name; a term of weight 0 is left out.

    Works in float32 whatever the encoders ran in: inputs are cast up and autocast is off.

    Args:
        loss: From `resolve`, through `prepare` if it has parameters.
        student: Output (B, D) and maps (B, C, H, W); carries the gradients.
        teacher: The same shapes; detached.
        generator: For losses that draw (`afd:released`).

    Returns:
        Scalars such as {"at": ..., "cosine": ...}.
    """
    terms = {}
    with torch.autocast(student.output.device.type, enabled=False):
        if loss.weight:
            terms[loss.term] = loss.weight * _call(loss, student, teacher, generator)
        if loss.cosine_weight:
            terms["cosine"] = loss.cosine_weight * cosine(student, teacher)
    return terms


def _call(loss: Loss, student: Representation, teacher: Representation, generator: Generator | None) -> Tensor:
    if loss.function is None:
        raise ValueError(f"loss {loss.name!r} has parameters of its own: call prepare() first")
    if loss.draws and generator is None:
        raise ValueError(f"loss {loss.name!r} draws its attention at random: hand in a generator")
    if loss.weigh is not None and not loss.relative:
        raise ValueError(f"loss {loss.name!r} weighs its stages by the teacher: call prepare() first")
    drawing = {"generator": generator} if loss.draws else {}
    if loss.relative:
        pairs = zip(loss.relative, loss.stages, strict=True)
        return sum(weight * loss.function(student, teacher, stages=(stage,), **drawing) for weight, stage in pairs)
    stages = {"stages": loss.stages} if loss.stages else {}
    return loss.function(student, teacher, **stages, **drawing)
