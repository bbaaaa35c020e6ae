"""Distillation on out-of-distribution images: patches of one picture, mixed by CutMix (Asano and Saeed, ICLR 2023).

Handed other images, it is the same method on other people's data: the points between clean data and one picture.
"""

from dataclasses import dataclass, field, fields

import torch
from torch import Generator, Tensor, nn

from distill_lib.datafree.defence import DefenceConfig, Guard
from distill_lib.datafree.divergence import Gauge, scale
from distill_lib.datafree.images import train_on_images
from distill_lib.datafree.picture import PatchConfig, patches
from distill_lib.errors import UsageError
from distill_lib.training.device import generator
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.supervised import SteppedSchedule
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.features import to_unit
from distill_lib.vision.wide_resnet import folded

EPOCHS, BATCH = 300, 512
QUANTILES = 1024
CHUNK = 512  # images that a teacher is asked about at a time
BOX = 16  # images that share a box where all are mixed beforehand


def _published() -> Schedule:
    steps = EPOCHS * (PatchConfig().count // BATCH)
    return Schedule(steps, BATCH, "adam", 1e-3, weight_decay=0.0)


@dataclass(frozen=True)
class OODConfig:
    """Settings; published where not marked.

    Attributes:
        schedule: Adam 1e-3, batch 512, 300 epochs, without weight decay; constant here.
        patches: How the picture is cut; of no use where images are handed in.
        cutmix: Parameter of Beta(., .) for the share of a second image; 0: none.
        fixed: Mix once, before the training, so that the teacher is asked once for each image: on two CPU cores, where
            a wide teacher's pass costs more than a narrow student's step [ours]. As published, every step mixes anew.
        temperature: T; the divergence carries T^2, as usual [ours].
        mean: Convention of the divergence's mean [ours].
        defence: What is on.
    """

    schedule: Schedule = field(default_factory=_published)
    patches: PatchConfig = field(default_factory=PatchConfig)
    cutmix: float = 0.25
    fixed: bool = False
    temperature: float = 8.0
    mean: str = "batch"
    defence: DefenceConfig = field(default_factory=DefenceConfig)

    def __post_init__(self):
        scale(self.mean, 2)
        if not (self.cutmix >= 0 and self.temperature > 0):
            raise UsageError(
                f"cutmix {self.cutmix} and temperature {self.temperature} are impossible; "
                "allowed: cutmix 0 or more, temperature above 0"
            )

    def views(self, images: Tensor, source: Generator) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of uint8 ones, as a step takes them before CutMix: as they are."""
        return to_unit(images)


def _halved() -> SteppedSchedule:
    plain = _published()
    return SteppedSchedule(**{each.name: getattr(plain, each.name) for each in fields(plain)}, drops=(0.5,), factor=0.5)


@dataclass(frozen=True)
class ReleasedOODConfig(OODConfig):
    """The same as ABD's code trains.

    Its divergence is averaged over the classes too and carries no T^2, which Adam cannot tell from ours; beside
    Retrospection, whose divergence does carry it there, the distillation then weighs 640 times less. Here it does with
    640 as Retrospection's `weight`.

    Attributes:
        schedule: The learning rate is halved after half of the training: epoch 150 of 300.
        augmentation: Flip and crop of every image at every step; of no use with `fixed`.
    """

    schedule: SteppedSchedule = field(default_factory=_halved)
    augmentation: CropFlip = field(default_factory=CropFlip)

    def views(self, images: Tensor, source: Generator) -> Tensor:
        return self.augmentation(images, source)


def ood(
    teacher: nn.Module,
    student: nn.Module,
    config: OODConfig,
    seed: int,
    watch: Watch | None = None,
    *,
    images: Tensor | None = None,
) -> list[dict[str, float]]:
    """Train `student` in place to agree with the teacher: T^2 KL(T || S).

    Args:
        teacher: A `WideResNet`, left as it is.
        student: Left in eval mode.
        config: Settings.
        seed: Of patches, order and mixing.
        watch: Reports and checkpoints.
        images: uint8 (N, 3, H, W) on the networks' device; None: patches of our picture.

    Returns:
        The log, with the terms `kl`, and `sr` of a defence.
    """
    device = next(student.parameters()).device
    images = patches(config.patches, seed, device=device) if images is None else images
    shares = beta_quantiles(config.cutmix).to(device) if config.cutmix else None
    teacher = folded(teacher)
    gauge = Gauge(config.temperature, True, config.mean)
    guard = Guard(config.defence, teacher, student, config.schedule.steps, seed, gauge)
    known = None
    if config.fixed:
        images = images if shares is None else mixed(images, shares, seed)
        known, shares = Known(teacher, images, guard), None

    def views(rows: Tensor, source: Generator) -> Tensor:
        plain = to_unit(images[rows]) if config.fixed else config.views(images[rows], source)
        return plain if shares is None else cutmix(plain, shares, source)

    def terms(views: Tensor, rows: Tensor) -> dict[str, Tensor]:
        if known is None:
            maps, taught = answer(teacher, views)
            suspects = guard.suspects(maps, taught)
        else:
            suspects, taught = known.suspects(rows), known.logits[rows]
        gap = guard.divergence(suspects, taught, student(views), config.temperature, config.mean)
        return {"kl": config.temperature**2 * gap}

    return train_on_images(student, guard, views, terms, len(images), config.schedule, seed, watch)


@torch.no_grad()
def answer(teacher: nn.Module, views: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's maps after `block2` and logits of images (B, 3, H, W) in [0, 1]."""
    maps = teacher.trunk(views)
    return maps, teacher.tail(maps)


class Known:
    """The teacher's answers to images that stay as they are, and which of them are suspicious: found once.

    Args:
        teacher: A frozen `WideResNet`.
        images: uint8 (N, 3, H, W).
        guard: What suspects.
    """

    def __init__(self, teacher: nn.Module, images: Tensor, guard: Guard):
        answers = (answer(teacher, to_unit(part)) for part in images.split(CHUNK))
        # Maps are kept where they are judged alone: those of a teacher without a first half are the images as floats.
        parts = [(maps if guard.vaccine else None, logits) for maps, logits in answers]
        self.logits = torch.cat([logits for _, logits in parts])
        self.guard, self._mask = guard, None
        self._parts = parts if guard.vaccine else []

    def suspects(self, rows: Tensor) -> Tensor | None:
        """Which images of these rows (B,) are suspicious, bool (B,); None while no vaccine is at work."""
        if self._mask is None:
            found = [self.guard.suspects(maps, logits) for maps, logits in self._parts]
            if not found or found[0] is None:
                return None
            self._mask, self._parts = torch.cat(found), []
        return self._mask[rows]


def mixed(images: Tensor, shares: Tensor, seed: int) -> Tensor:
    """CutMix in chunks of uint8 images (N, 3, H, W): a box and a share for each chunk."""
    source = generator(seed, images.device)
    order = torch.randperm(len(images), generator=source, device=images.device)
    return torch.cat([cutmix(part, shares, source) for part in images[order].split(BOX)])


def cutmix(images: Tensor, shares: Tensor, source: Generator) -> Tensor:
    """One box for the whole batch, filled from another image of it (Yun et al., ICCV 2019).

    Args:
        images: (B, 3, H, W), of any type.
        shares: Equally likely shares of an image's own area, (Q,), of which one is drawn.
        source: The only source of randomness; all draws stay on the device.
    """
    height, width = images.shape[2:]
    draws = torch.rand(2, generator=source, device=images.device)
    share = shares[torch.randint(len(shares), (1,), generator=source, device=images.device)]
    partners = torch.randperm(len(images), generator=source, device=images.device)
    half = (1 - share).sqrt() / 2
    rows, columns = ((torch.arange(side, device=images.device) + 0.5) / side for side in (height, width))
    inside = ((rows - draws[0]).abs() < half)[:, None] & ((columns - draws[1]).abs() < half)
    return torch.where(inside, images[partners], images)


def beta_quantiles(parameter: float, count: int = QUANTILES) -> Tensor:
    """`count` equally likely values of Beta(parameter, parameter), ascending: drawn by index from a torch generator."""
    from scipy.stats import beta  # half a second, for CutMix alone

    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.from_numpy(beta.ppf(middles.numpy(), parameter, parameter)).float()
