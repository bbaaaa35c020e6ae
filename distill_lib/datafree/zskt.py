"""ZSKT: a generator and a student play against each other (Micaelli and Storkey, NeurIPS 2019; as in ABD's study).

In a turn, the generator makes one pseudo-batch on which student and teacher are to disagree, and the student takes
ten steps to agree on it. The images and all that the teacher says of them are computed once, with a graph for the
generator's step, without one for the student's.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from distill_lib.datafree.defence import DefenceConfig, Guard
from distill_lib.datafree.divergence import Gauge, kl, scale
from distill_lib.datafree.generator import GeneratorConfig, build_generator
from distill_lib.datafree.play import Play, descend, run
from distill_lib.distillation.losses.at import attention
from distill_lib.errors import UsageError
from distill_lib.training.loop import SCHEDULES, Watch
from distill_lib.vision.features import collect
from distill_lib.vision.wide_resnet import BLOCKS, folded


@dataclass(frozen=True)
class ZSKTConfig:
    """Settings; published for CIFAR-10 where not marked (`GTSRB` beside it).

    Attributes:
        turns: Pseudo-batches.
        batch: Images in one.
        student_steps: Of the student on one.
        generator_lr: Of Adam, cosine.
        student_lr: Of Adam, cosine.
        clip: Largest norm of either gradient.
        temperature: Of the divergence; it carries no factor T^2, as released.
        attention: Weight of attention transfer over the three blocks; 0 leaves it out.
        generator: Size.
        mean: Convention of the divergence's mean, for generator and student: as released, to which the weight of
            attention transfer is tuned.
        defence: What is on.
    """

    turns: int = 80_000
    batch: int = 128
    student_steps: int = 10
    generator_lr: float = 1e-3
    student_lr: float = 2e-3
    clip: float = 5.0
    temperature: float = 1.0
    attention: float = 250.0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    mean: str = "batch_and_classes"
    defence: DefenceConfig = field(default_factory=DefenceConfig)

    def __post_init__(self):
        scale(self.mean, 2)
        if min(self.turns, self.student_steps) < 0 or self.batch < 2:
            raise UsageError(
                f"turns {self.turns}, student_steps {self.student_steps}, batch {self.batch} are impossible; "
                "allowed: turns >= 0, student_steps >= 0, batch >= 2"
            )
        if not (min(self.generator_lr, self.student_lr, self.clip, self.temperature) > 0 and self.attention >= 0):
            raise UsageError(
                f"generator_lr {self.generator_lr}, student_lr {self.student_lr}, clip {self.clip}, temperature "
                f"{self.temperature}, attention {self.attention} are impossible; allowed: above 0, attention from 0 on"
            )


GTSRB = ZSKTConfig(turns=10_000, temperature=0.5, attention=0.0)


def zskt(
    teacher: nn.Module, student: nn.Module, config: ZSKTConfig, seed: int, watch: Watch | None = None, show=None
) -> list[dict[str, float]]:
    """Train `student` in place without any data; it is left in eval mode.

    The student stays in train mode in the generator's step, so its batch norms see every pseudo-batch once more [ours],
    until Self-Retrospection, during which they stand still.

    Args:
        teacher: A `WideResNet`, left as it is.
        student: Likewise, maps of the same sizes.
        config: Settings.
        seed: Of the generator's weights and of everything drawn.
        watch: Reports and checkpoints.
        show: Optional: called as show(turn, generator) before each turn, to look at images and student; what it draws
            must come from elsewhere (`generator.sample`).

    Returns:
        The log, with the terms `generator`, `kl`, `at`, and `sv`, `sr` of a defence; see `Guard.noted`.
    """
    device = next(student.parameters()).device
    teacher = folded(teacher)
    generator = build_generator(config.generator, seed).to(device)
    gauge = Gauge(config.temperature, False, config.mean)
    guard = Guard(config.defence, teacher, student, config.turns, seed, gauge)
    modules = nn.ModuleDict({"student": student, "generator": generator, **guard.modules()}).train()
    optimisers = {
        "generator": torch.optim.Adam(generator.parameters(), config.generator_lr, fused=True),
        "student": torch.optim.Adam(student.parameters(), config.student_lr, fused=True),
    }

    def rate(number: int, usual: float) -> float:
        return usual * SCHEDULES["cosine"](number / max(1, config.turns))

    def student_rate(number: int) -> float:
        return guard.rate(number, rate(number, config.student_lr))

    def draw(count: int, source: torch.Generator) -> Tensor:
        return generator(torch.randn(count, config.generator.latent, generator=source, device=device))

    def turn(number: int, source: torch.Generator) -> dict[str, Tensor]:
        if show is not None:
            show(number, generator)
        guard.prepare(number, draw)
        guard.set_mode(number)
        images = draw(config.batch, source)
        taught, maps = collect(teacher, images, BLOCKS)
        disagreement = kl(taught, student(images), config.temperature, config.mean)
        terms = {"generator": -disagreement, **guard.generator_terms(maps["block2"], taught, config.mean)}
        descend(optimisers["generator"], sum(terms.values()), rate(number, config.generator_lr), config.clip)
        images, taught = images.detach(), taught.detach()
        looks = {path: attention(each.detach().float()) for path, each in maps.items()} if config.attention else {}
        if guard.renews(number):
            optimisers["student"].state.clear()
        for _ in range(config.student_steps):
            learned = _student_terms(student, images, taught, looks, config) | guard.student_terms(number, images)
            descend(optimisers["student"], sum(learned.values()), student_rate(number), config.clip)
            terms |= learned
        return {name: value.detach() for name, value in terms.items()}

    log = run(Play(modules, optimisers, turn, config.turns, student_rate), seed, watch)
    student.eval()
    return guard.noted(log, draw)


def _student_terms(
    student: nn.Module, images: Tensor, taught: Tensor, looks: dict[str, Tensor], config: ZSKTConfig
) -> dict[str, Tensor]:
    """KL(T || S), and 250 times the sum over blocks of mean (A_S - A_T)^2."""
    logits, maps = collect(student, images, tuple(looks))
    terms = {"kl": kl(taught, logits, config.temperature, config.mean)}
    if looks:
        gaps = [mse_loss(attention(maps[path].float()), look) for path, look in looks.items()]
        terms["at"] = config.attention * sum(gaps)
    return terms
