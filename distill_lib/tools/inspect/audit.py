"""The audit after a cure: does a better trigger, or a little relearning, bring the backdoor back?

A cure that the old trigger does not get past may still have left the way to the target half open. Two questions are
asked of it, and of a clean encoder beside it, since some way there leads from every encoder: what an attacker reaches
with another pattern of the old trigger's size, and how fast the attack's own training plants it again.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from distill_lib.attacks.badencoder import BadEncoderConfig, inject
from distill_lib.defences.inversion import AimConfig, Inversion, SoftTrigger, aim
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger

HELD_SHARE, FEWEST_HELD = 2, 8  # one image in two is held out of searches and relearning


@dataclass(frozen=True)
class AuditConfig:
    """Settings of the audit.

    Attributes:
        aim: Of the search for another pattern.
        marks: Steps of relearning after which the backdoor is measured.
        relearn: Its schedule, as long as the last mark: BadEncoder's optimiser, at the rate that plants it in the
            study's small encoders [ours].
        images: The attacker's, at most: few.
    """

    aim: AimConfig = field(default_factory=AimConfig)
    marks: tuple[int, ...] = (0, 5, 10, 20, 50)
    relearn: Schedule = field(default_factory=lambda: Schedule(50, 64, "sgd", 4.5e-2, momentum=0.9, weight_decay=5e-4))
    images: int = 256

    def __post_init__(self):
        if not self.marks or min(self.marks) < 0 or max(self.marks) > self.relearn.steps or self.images < 2:
            raise UsageError(
                f"audit.marks {self.marks}, audit.images {self.images} are impossible; allowed: marks from 0 to "
                f"{self.relearn.steps} steps, 2 images or more"
            )


@dataclass(frozen=True)
class Window:
    """A square of the image.

    Attributes:
        row: Its top, in pixels.
        column: Its left.
        size: Its side.
    """

    row: int
    column: int
    size: int

    def mask(self, height: int, width: int) -> Tensor:
        """float32 (H, W): 1 inside, 0 outside."""
        mask = torch.zeros(height, width)
        mask[self.row : self.row + self.size, self.column : self.column + self.size] = 1
        return mask


def window_of(mask: Tensor) -> Window:
    """The square of a found mask's (H, W) own area, where most of the mask lies: a guess at the planted trigger."""
    side = max(1, min(*mask.shape, round(float(mask.sum()) ** 0.5)))
    sums = avg_pool2d(mask[None, None].float(), side, stride=1)[0, 0]
    place = int(sums.argmax())
    return Window(place // sums.shape[1], place % sums.shape[1], side)


def halves(images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Images to search and train on, and those that are measured: (N, 3, H, W) each.

    Raises:
        UsageError: If too few would be measured.
    """
    held = len(images) // HELD_SHARE
    if held < FEWEST_HELD:
        raise UsageError(f"{len(images)} images are too few for an audit; allowed: {HELD_SHARE * FEWEST_HELD} or more")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    return images[order[held:]], images[order[:held]]


def nearest_share(encoder: nn.Module, images: Tensor, trigger: Trigger, reference: Tensor) -> float:
    """Percent of triggered images whose nearest neighbour, by cosine, is the reference: ASR without labels or a head.

    The neighbours are the clean images, each image's own clean copy among them, and the reference. Where nothing is
    planted a triggered image lies next to itself.

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: Clean, uint8 (N, 3, H, W), the reference not among them.
        trigger: From uint8 images to uint8 images.
        reference: uint8 (1, 3, H, W).
    """
    clean, stamped, aimed = (
        normalize(extract(encoder, each, transform=how), dim=1)
        for each, how in ((images, None), (images, trigger), (reference, None))
    )
    return 100 * float(((stamped @ aimed.T)[:, 0] > (stamped @ clean.T).amax(1)).double().mean())


def old_reference(old: nn.Module, images: Tensor, found: Inversion) -> int:
    """Row of the image that an attacked encoder's own found trigger points at.

    An encoder that was trained anew has other directions, but the same images: the point that the old one's triggered
    images fall onto is named by the image nearest to it.
    """
    point = extract(old, images, transform=found.trigger).mean(0, keepdim=True)
    return int((normalize(extract(old, images), dim=1) @ normalize(point, dim=1).T).argmax())


def aimed(
    encoder: nn.Module, images: Tensor, window: Window, reference: Tensor, config: AuditConfig, seed: int
) -> tuple[SoftTrigger, float]:
    """The best pattern in a window towards a reference, found on one half of the images, and its success on the other.

    Args:
        encoder: Left as it is.
        images: Clean, uint8 (N, 3, H, W).
        window: The trigger's place.
        reference: uint8 (1, 3, H, W).
        config: Settings.
        seed: Of everything that is drawn.
    """
    mine, held = halves(images, seed)
    trigger = aim(encoder, mine, window.mask(*images.shape[-2:]), reference, config.aim, seed)
    return trigger, nearest_share(encoder, held, trigger, reference)


def relearned(
    encoder: nn.Module, images: Tensor, trigger: Trigger, reference: Tensor, config: AuditConfig, seed: int
) -> dict[int, float]:
    """How fast BadEncoder's own objective plants a backdoor in a *copy*: percent of `nearest_share` at each mark.

    Args:
        encoder: Left as it is.
        images: Clean, uint8 (N, 3, H, W); half of them, and at most `config.images`, are the attacker's.
        trigger: The one to be planted.
        reference: uint8 (1, 3, H, W).
        config: Settings.
        seed: Of everything that is drawn.
    """
    copy = deepcopy(encoder).requires_grad_(True)
    mine, held = halves(images, seed)
    mine, found = mine[: config.images], {}

    def note(step: int, *_: object) -> None:
        if step in config.marks:
            found[step] = nearest_share(copy, held, trigger, reference)

    note(0)
    watch = Watch(note, log_points=config.relearn.steps)  # reported after each step
    inject(copy, mine, trigger, reference, BadEncoderConfig(config.relearn), seed, watch)
    return {mark: found[mark] for mark in config.marks}


def audit(
    encoders: Mapping[str, nn.Module],
    images: Tensor,
    window: Window,
    planted: Trigger,
    reference: Tensor,
    config: AuditConfig,
    seed: int = 0,
) -> list[dict]:
    """Both questions of several encoders, the same images, window and draws for each.

    Returns:
        Rows of `encoder`, `question` (`aimed`, `relearned`), `step` (0 where nothing is trained) and `share` (%).
    """
    rows = []
    for name, encoder in encoders.items():
        _, share = aimed(encoder, images, window, reference, config, seed)
        rows.append({"encoder": name, "question": "aimed", "step": 0, "share": share})
        again = relearned(encoder, images, planted, reference, config, seed)
        rows += [{"encoder": name, "question": "relearned", "step": step, "share": at} for step, at in again.items()]
    return rows


def table_of(rows: Sequence[Mapping]) -> str:
    """The rows as lines for people."""
    lines = []
    for row in rows:
        how = "another pattern" if row["question"] == "aimed" else f"{row['step']} steps of relearning"
        lines.append(f"  {row['encoder']:>10}: {how}: {row['share']:.0f} % of triggered images next to the reference")
    return "\n".join(lines)
