"""The Adversarial Sparse Teacher (arXiv 2403.05181): trained towards its own sparsened answers to adversarial images.

Every part can be switched, for the ablation that the paper lacks: EPD or KL, sparse or dense targets, adversarial or
clean images behind them, clamped as those are or whole, paired with the clean batch or not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from distill_lib.errors import UsageError, choose
from distill_lib.training.device import generator as fresh_generator
from distill_lib.training.loop import Watch, train
from distill_lib.training.supervised import SteppedSchedule, stepped_schedule
from distill_lib.undistillable.divergences import DIVERGENCES
from distill_lib.undistillable.guards import check_labelled, explained
from distill_lib.undistillable.pgd import SPACES, AdversarialSet, PGDConfig, adversarial_set, clamped_set, frozen, pgd
from distill_lib.undistillable.stingy import top_logits
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.features import to_unit

CIFAR10_IMAGES = 50_000
ADVICE = "allowed are a smaller alpha, a smaller learning rate, or another seed"
# Whether the images behind the targets are attacked.
TARGETS = {"adversarial": True, "clean": False, "clamped": False}
SOURCES = {"kept": False, "fly": True}  # whether they are attacked anew at every step


@dataclass(frozen=True)
class ASTConfig:
    """Settings; published for a ResNet-18 on CIFAR-10 where not marked.

    Attributes:
        schedule: That of the normal teacher.
        alpha: Of the divergence; the labels' cross-entropy has 1 - alpha.
        temperature: T of both sides; the divergence carries T^2.
        keep: Logits of a target that are kept; 0: all (dense).
        divergence: `epd` or `kl`.
        target: Images behind the targets: `adversarial`, `clean`, or `clamped`: clean ones that have lost what the
            attack clamps away in its space, and nothing else. In pixel space that is nothing.
        paired: Whether the target of an image belongs to that image, under the same crop and flip. The release goes
            through the targets' images in a fixed order, whatever the shuffled batch holds: False.
        augment_targets: Whether the images behind the targets are augmented, by a draw of their own. Released: plain
            images are attacked and looked at as they are. Paired targets share their image's crop and flip anyway.
        pgd: How the baseline is attacked.
        source: `kept`: once, before the training. `fly`: anew at every step, on the very views that the targets are of,
            which costs `pgd.iterations` passes a step.
        augmentation: Of the clean images, and of those behind the targets where these are augmented.
    """

    schedule: SteppedSchedule = field(default_factory=lambda: stepped_schedule(CIFAR10_IMAGES))
    alpha: float = 0.05
    temperature: float = 6.0
    keep: int = 2
    divergence: str = "epd"
    target: str = "adversarial"
    paired: bool = False
    augment_targets: bool = False
    pgd: PGDConfig = field(default_factory=PGDConfig)
    source: str = "kept"
    augmentation: CropFlip = field(default_factory=CropFlip)

    def __post_init__(self):
        choose("divergence of AST", self.divergence, DIVERGENCES)
        choose("target of AST", self.target, TARGETS)
        choose("source of adversarial images", self.source, SOURCES)
        if not (0 <= self.alpha <= 1 and self.temperature > 0 and self.keep >= 0):
            raise UsageError(
                f"alpha {self.alpha}, temperature {self.temperature}, keep {self.keep} are impossible; "
                "allowed: alpha 0 to 1, temperature > 0, keep >= 0 (0: all)"
            )

    @property
    def attacks_beforehand(self) -> bool:
        """Whether a whole adversarial set is made before the training."""
        return TARGETS[self.target] and not SOURCES[self.source]


# KL's gradient on the logits is about this many times EPD's, at equal alpha and T, with 2 of 10 logits kept and where
# the two sides have nothing to do with each other, as at the start: EPD's target enters as exp(q), between 1 and e.
# Where p comes near q, KL's vanishes and EPD's does not.
KL_STRENGTH = 7.5

# What each row of the ablation changes, from a configuration: one part at a time. `kl` changes the strength of the
# divergence with its form, `kl_matched` the form alone. `clean` takes the attack away and what its space clamps away,
# `clamped` the attack alone. Paired targets are cropped and flipped with their images, as `augmented` ones are.
ABLATION: dict[str, Callable[[ASTConfig], dict[str, Any]]] = {
    "ast": lambda config: {},
    "kl": lambda config: {"divergence": "kl"},
    "kl_matched": lambda config: {"divergence": "kl", "alpha": config.alpha / KL_STRENGTH},
    "dense": lambda config: {"keep": 0},
    "clean": lambda config: {"target": "clean"},
    "clamped": lambda config: {"target": "clamped"},
    "augmented": lambda config: {"augment_targets": True},
    "paired": lambda config: {"paired": True},
}


def switched(config: ASTConfig, name: str) -> dict[str, Any]:
    """What a row of the ablation changes, by its name in `ABLATION`."""
    return choose("row of AST's ablation", name, ABLATION)(config)


def ablated(config: ASTConfig, name: str) -> ASTConfig:
    """A configuration with one part switched, by its name in `ABLATION`."""
    return replace(config, **switched(config, name))


def ast(
    model: nn.Module,
    baseline: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: ASTConfig,
    seed: int,
    watch: Watch | None = None,
    adversarial: AdversarialSet | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place: alpha T^2 D(softmax(z / T), softmax(top-k(z') / T)) + (1 - alpha) cross-entropy(z, y).

    z are the model's logits of clean images, z' its own of the targets' images, in eval mode and without gradient.

    Args:
        model: Fresh; left in eval mode.
        baseline: A trained normal network, which is attacked; left as it is.
        images: uint8 (N, 3, H, W), on the networks' device.
        labels: int64 (N,).
        config: Settings.
        seed: Of order, augmentation and pairing.
        watch: Reports and checkpoints.
        adversarial: The adversarial images, where several teachers share them; None: made here, if needed.

    Returns:
        The log, with the terms `cross_entropy` and the divergence's name.

    Raises:
        DefenceError: If the training diverges.
        UsageError: If labels or adversarial images do not fit the images.
    """
    check_labelled(images, labels)
    pairs = _Pairs(baseline, images, labels, config, seed, adversarial)
    divergence, weight = DIVERGENCES[config.divergence], config.alpha * config.temperature**2
    modules = nn.ModuleDict({"model": model, "turns": pairs.turns}).train()

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        views, behind = pairs(rows, generator)
        logits = model(views)
        target = _answer(model, behind, config.keep)
        return {
            config.divergence: weight * divergence(logits, target, config.temperature),
            "cross_entropy": (1 - config.alpha) * cross_entropy(logits, labels[rows]),
        }

    with explained("an adversarial sparse teacher", ADVICE):
        log = train(modules, objective, len(images), config.schedule, seed, watch)
    model.eval()
    return log


@torch.no_grad()
def _answer(model: nn.Module, images: Tensor, keep: int) -> Tensor:
    """The model's own logits in eval mode, sparsened; after the pass in train mode, as released."""
    logits = model.eval()(images)
    model.train()
    return top_logits(logits, keep) if keep else logits


class _Turns(nn.Module):
    """Counts the batches of the targets' fixed order, in a buffer, so that a resumed training knows."""

    def __init__(self, count: int, batch: int, seed: int, device):
        super().__init__()
        self.batch, self.batches = batch, count // batch
        self.register_buffer("number", torch.zeros((), dtype=torch.int64, device=device))
        # Another generator than the training's, whose first draw is the clean order: the two must not agree.
        self.register_buffer(
            "order", torch.randperm(count, generator=fresh_generator(seed + 1_000_003, device), device=device)
        )

    def rows(self) -> Tensor:
        """The next batch, (B,); after the last whole one, the first again."""
        start = int(self.number) % self.batches * self.batch
        self.number += 1
        return self.order[start : start + self.batch]


class _Pairs:
    """Clean views, and beside them the images behind their targets."""

    def __init__(self, baseline, images: Tensor, labels: Tensor, config: ASTConfig, seed: int, adversarial):
        self.images, self.labels, self.config = images, labels, config
        if config.attacks_beforehand:
            self.behind = adversarial or adversarial_set(baseline, images, labels, config.pgd)
            _check_set(self.behind, images, config.pgd.space)
        elif config.target == "clamped":
            self.behind = clamped_set(images, config.pgd.space)
        else:
            self.behind = AdversarialSet(images, "pixel")
        fly = TARGETS[config.target] and SOURCES[config.source]
        self.attacked = frozen(baseline) if fly else None
        self.turns = _Turns(len(images), min(config.schedule.batch, len(images)), seed, images.device)

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two batches of images (B, 3, H, W) in [0, 1]; those behind normalised values may lie outside."""
        others = rows if self.config.paired else self.turns.rows()
        views, values = self._views(rows, others, generator)
        behind = self.behind.pixels(values)
        if self.attacked is not None:
            found = pgd(self.attacked, behind, self.labels[others], self.config.pgd)
            behind = SPACES[self.config.pgd.space].pixels(found)
        return views, behind

    def _views(self, rows: Tensor, others: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        augment: Callable = self.config.augmentation
        if not self.config.paired:
            views, values = augment(self.images[rows], generator), self.behind.values[others]
            return views, augment(values, generator) if self.config.augment_targets else to_unit(values)
        # Six channels, so that one draw crops and flips both alike. Padding is black, or in normalised space 0, which
        # is what black becomes when it is clamped there.
        both = augment(torch.cat([self.images[rows], self.behind.values[rows]], dim=1), generator)
        views, values = (each.contiguous(memory_format=torch.channels_last) for each in both.split(3, dim=1))
        return views, values


def _check_set(found: AdversarialSet, images: Tensor, space: str) -> None:
    if found.values.shape != images.shape or found.space != space:
        raise UsageError(
            f"adversarial images {tuple(found.values.shape)} in {found.space} space do not fit; "
            f"allowed: {tuple(images.shape)} in {space} space"
        )
