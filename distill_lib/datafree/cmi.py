"""CMI: model inversion with contrastive diversity (Fang et al., IJCAI 2021; as in ABD's study).

A round inverts the teacher, a generator making one batch of images that fit the teacher's batch norms, are given a
class for sure, are not yet agreed on by the student, and differ from all images made before; then the student learns
from all of them. As released, each round begins with a new generator and keeps the images of its least cost. The pool
lies in memory as uint8, with the teacher's features beside it.

The facts name the terms, their weights and the schedule. Ours are [ours]: the generator's initial weights are torch's;
the first three terms are taken of the images as they are, not of a shifted and flipped view; a positive pair is an
image and a crop of it, by their last features; negatives are the batch's other images and some of the pool; learning
rate of generator, z and projector, and that the projector's moments begin anew with each round; cosine for the student.
"""

import copy
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from distill_lib.datafree.defence import DefenceConfig, Guard
from distill_lib.datafree.divergence import Gauge, divergences, kl, scale
from distill_lib.datafree.generator import GeneratorConfig, build_generator
from distill_lib.datafree.play import Play, descend, run
from distill_lib.errors import UsageError
from distill_lib.training.loop import SCHEDULES, Watch
from distill_lib.training.simclr import Projector
from distill_lib.vision.augment import Augmentation, resample
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.wide_resnet import folded

FRESH_GENERATOR = 1_000_000  # added to the seeds of later rounds' generators


@dataclass(frozen=True)
class CMIConfig:
    """Settings; published where not marked.

    Attributes:
        rounds: Of inversion and distillation.
        generator_steps: In a round.
        images: Made in a round.
        student_steps: In a round.
        batch: Images of a student step.
        bn: Weight of the batch-norm term.
        one_hot: Weight of the cross-entropy with a random class.
        adversarial: Weight of -KL(T || S).
        contrastive: Weight of the contrast.
        contrast_temperature: Of the contrast.
        temperature: T of the student's divergence.
        lr: Of the student's SGD, momentum .9 [ours], cosine [ours].
        weight_decay: Of the same.
        generator_lr: Of Adam on generator, z and projector [ours].
        projection: Hidden and output width of the projector [ours].
        negatives: Images of the pool in a contrast [ours].
        crop: Smallest and largest area of a crop [ours].
        generator: Size; its output is in [0, 1], so that it can be kept as uint8.
        augmentation: Of the pool's images before the student [ours].
        mean: Convention of the divergences' means [ours].
        defence: What is on.
    """

    rounds: int = 200
    generator_steps: int = 200
    images: int = 256
    student_steps: int = 400
    batch: int = 128
    bn: float = 1.0
    one_hot: float = 1.0
    adversarial: float = 0.5
    contrastive: float = 0.8
    contrast_temperature: float = 0.1
    temperature: float = 20.0
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    generator_lr: float = 1e-3
    projection: tuple[int, int] = (128, 128)
    negatives: int = 256
    crop: tuple[float, float] = (0.25, 1.0)
    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(output="unit"))
    augmentation: CropFlip = field(default_factory=CropFlip)
    mean: str = "batch"
    defence: DefenceConfig = field(default_factory=DefenceConfig)

    def __post_init__(self):
        scale(self.mean, 2)
        if self.rounds < 0 or min(self.generator_steps, self.student_steps, self.negatives) < 1:
            raise UsageError(
                f"rounds {self.rounds}, generator_steps {self.generator_steps}, student_steps {self.student_steps}, "
                f"negatives {self.negatives} are impossible; allowed: rounds >= 0, the others >= 1"
            )
        if min(self.images, self.batch) < 2 or self.generator.output != "unit":
            raise UsageError(
                f"images {self.images}, batch {self.batch}, generator output {self.generator.output!r} are impossible; "
                "allowed: 2 images or more, output 'unit'"
            )

    @property
    def turns(self) -> int:
        """Optimiser steps of generator and student together."""
        return self.rounds * (self.generator_steps + self.student_steps)


class Pool(nn.Module):
    """All images made so far: uint8 (rounds * images, 3, H, W), and the teacher's features of them."""

    def __init__(self, rounds: int, images: int, size: int, dimension: int):
        super().__init__()
        self.each = images
        self.register_buffer("images", torch.zeros(rounds * images, 3, size, size, dtype=torch.uint8))
        self.register_buffer("features", torch.zeros(rounds * images, dimension))

    def store(self, number: int, images: Tensor, features: Tensor) -> None:
        """Keep the images (N, 3, H, W) in [0, 1] and features (N, D) of a round."""
        rows = slice(number * self.each, (number + 1) * self.each)
        self.images[rows] = (images * 255).round().to(torch.uint8)
        self.features[rows] = features

    def draw(self, filled: int, count: int, source: torch.Generator) -> Tensor:
        """Random rows, (count,), of the first `filled` rounds."""
        return torch.randint(filled * self.each, (count,), generator=source, device=self.images.device)


class _Best(nn.Module):
    """A round's images of least cost so far, with the teacher's features: they outlive a checkpoint."""

    def __init__(self, images: int, size: int, dimension: int):
        super().__init__()
        self.register_buffer("images", torch.zeros(images, 3, size, size))
        self.register_buffer("features", torch.zeros(images, dimension))
        self.register_buffer("cost", torch.tensor(math.inf))

    @torch.no_grad()
    def offer(self, images: Tensor, features: Tensor, cost: Tensor) -> None:
        """Keep these where they cost less; decided on the device, which need not wait."""
        better = cost < self.cost
        for name, new in {"images": images, "features": features, "cost": cost}.items():
            old = getattr(self, name)
            old.copy_(torch.where(better, new, old))


class _Noise(nn.Module):
    """The round's z, which is learnt, and its classes."""

    def __init__(self, count: int, latent: int):
        super().__init__()
        self.z = nn.Parameter(torch.zeros(count, latent))
        self.register_buffer("classes", torch.zeros(count, dtype=torch.int64))

    @torch.no_grad()
    def redraw(self, classes: int, source: torch.Generator) -> None:
        self.z.copy_(torch.randn(self.z.shape, generator=source, device=self.z.device))
        self.classes.copy_(torch.randint(classes, self.classes.shape, generator=source, device=self.z.device))


def cmi(
    teacher: nn.Module, student: nn.Module, config: CMIConfig, seed: int, watch: Watch | None = None, show=None
) -> list[dict[str, float]]:
    """Train `student` in place without any data; it is left in eval mode.

    Args:
        teacher: A `WideResNet`, left as it is.
        student: Likewise.
        config: Settings.
        seed: Of generator, projector and everything drawn.
        watch: Reports and checkpoints.
        show: Optional: called as show(turn, pool) before each turn.

    Returns:
        The log, with the terms `bn`, `one_hot`, `adversarial`, `contrastive`, `kl`, and `sv`, `sr` of a defence; see
        `Guard.noted`.
    """
    game = _Game(teacher, student, config, seed)

    def turn(number: int, source: torch.Generator) -> dict[str, Tensor]:
        if show is not None:
            show(number, game.pool)
        return game.turn(number, source)

    log = run(Play(game.modules, game.optimisers, turn, config.turns, game.student_rate), seed, watch)
    student.eval()
    return game.guard.noted(log, game.probes(config.rounds))


class _Game:
    """Everything that a turn of CMI needs."""

    def __init__(self, teacher: nn.Module, student: nn.Module, config: CMIConfig, seed: int):
        device = next(student.parameters()).device
        # Not folded: its batch norms' statistics are what the images have to fit.
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.answering = folded(self.teacher)  # for the student's steps, which need the logits alone
        self.student, self.config, self.seed = student, config, seed
        self.classes = self.teacher.head.out_features
        self.generator = build_generator(config.generator, seed).to(device)
        self.projector = Projector(self.teacher.dimension, *config.projection, seed=seed).to(device)
        self.noise = _Noise(config.images, config.generator.latent).to(device)
        size = config.generator.image_size
        self.pool = Pool(config.rounds, config.images, size, self.teacher.dimension).to(device)
        self.best = _Best(config.images, size, self.teacher.dimension).to(device)
        gauge = Gauge(config.temperature, True, config.mean)
        self.guard = Guard(config.defence, self.teacher, student, config.turns, seed, gauge)
        parts = {"generator": self.generator, "projector": self.projector, "noise": self.noise}
        parts |= {"pool": self.pool, "best": self.best}
        self.modules = nn.ModuleDict({"student": student, **parts, **self.guard.modules()}).train()
        learnt = [each for part in (self.generator, self.projector, self.noise) for each in part.parameters()]
        self.optimisers = {
            "generator": torch.optim.Adam(learnt, config.generator_lr, fused=True),
            "student": torch.optim.SGD(
                student.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
            ),
        }

    def student_rate(self, number: int) -> float:
        usual = self.config.lr * SCHEDULES["cosine"](number / max(1, self.config.turns))
        return self.guard.rate(number, usual)

    def turn(self, number: int, source: torch.Generator) -> dict[str, Tensor]:
        self.guard.set_mode(number)
        if self.guard.renews(number):
            self.optimisers["student"].state.clear()
        made, at = divmod(number, self.config.generator_steps + self.config.student_steps)
        if at < self.config.generator_steps:
            return self.invert(number, made, at, source)
        return self.distil(number, made + 1, source)

    def invert(self, number: int, made: int, at: int, source: torch.Generator) -> dict[str, Tensor]:
        """One step of generator, z and projector; after the round's last one its images of least cost are kept."""
        if at == 0:
            self.begin(made, source)
        if made:
            self.guard.prepare(number, self.probes(made))
        images = self.generator(self.noise.z)
        with batch_norm_gap(self.teacher) as gaps:
            maps = self.teacher.trunk(images)
            features = self.teacher.represent(maps)
        logits = self.teacher.head(features)
        terms = {
            "bn": self.config.bn * sum(gaps),
            "one_hot": self.config.one_hot * cross_entropy(logits, self.noise.classes),
            "adversarial": self.config.adversarial * self.adversarial(images, logits),
            "contrastive": self.config.contrastive * self.contrast(images, features, made, source),
            **self.guard.generator_terms(maps, logits, self.config.mean),
        }
        cost = sum(terms.values())
        self.best.offer(images, features, cost)
        descend(self.optimisers["generator"], cost, self.config.generator_lr)
        if at == self.config.generator_steps - 1:
            self.pool.store(made, self.best.images, self.best.features)
        return {name: value.detach() for name, value in terms.items()}

    def begin(self, made: int, source: torch.Generator) -> None:
        """A round's start: other noise, other classes and, after the first round, another generator."""
        self.noise.redraw(self.classes, source)
        if made:
            fresh = build_generator(self.config.generator, FRESH_GENERATOR + self.seed * self.config.rounds + made)
            self.generator.load_state_dict(fresh.state_dict())
        self.optimisers["generator"].state.clear()  # what is learnt begins anew, and so do its moments
        self.best.cost.fill_(math.inf)

    def adversarial(self, images: Tensor, logits: Tensor) -> Tensor:
        """-KL(T || S) where both name the same class: elsewhere there is nothing left to gain."""
        was_training = self.student.training
        learned = self.student.eval()(images)
        self.student.train(was_training)
        agreed = learned.argmax(1) == logits.argmax(1)
        return -scale(self.config.mean, self.classes) * (divergences(logits, learned) * agreed).mean()

    def contrast(self, images: Tensor, features: Tensor, made: int, source: torch.Generator) -> Tensor:
        """Each image is to pick a crop of itself among the batch's crops and images of the pool."""
        crops = Augmentation(crop_scale=self.config.crop)
        box = crops.draw_box(len(images), images.shape[-1], source, images.device)
        flip = torch.rand(len(images), generator=source, device=images.device) < crops.flip
        view = self.teacher.represent(self.teacher.trunk(resample(images, box, flip)))
        old = self.pool.features[self.pool.draw(made, self.config.negatives, source)] if made else features[:0]
        projected = normalize(self.projector(torch.cat([features, view, old])), dim=1)
        one, others = projected[: len(images)], projected[len(images) :]
        own = torch.arange(len(images), device=images.device)
        return cross_entropy(one @ others.T / self.config.contrast_temperature, own)

    def distil(self, number: int, filled: int, source: torch.Generator) -> dict[str, Tensor]:
        """One step of the student on images of the pool."""
        images = self.views(self.pool.draw(filled, self.config.batch, source), source)
        with torch.no_grad():
            taught = self.answering(images)
        gap = kl(taught, self.student(images), self.config.temperature, self.config.mean)
        terms = {"kl": self.config.temperature**2 * gap, **self.guard.student_terms(number, images)}
        descend(self.optimisers["student"], sum(terms.values()), self.student_rate(number))
        return {name: value.detach() for name, value in terms.items()}

    def probes(self, filled: int) -> Callable[[int, torch.Generator], Tensor]:
        """Draws views of the images of the first `filled` rounds."""
        return lambda count, source: self.views(self.pool.draw(filled, count, source), source)

    def views(self, rows: Tensor, source: torch.Generator) -> Tensor:
        return self.config.augmentation(self.pool.images[rows], source)


@contextmanager
def batch_norm_gap(model: nn.Module):
    """While open, yields a list that a forward pass fills, with one number for each batch norm.

    It is the L2 distance of the input's mean over the batch to the running mean plus that of the variances; the model
    is in eval mode.
    """
    gaps: list[Tensor] = []

    def note(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        maps = inputs[0].float()
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
        gaps.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    layers = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    handles = [each.register_forward_pre_hook(note) for each in layers]
    try:
        yield gaps
    finally:
        for handle in handles:
            handle.remove()
