"""What methods on images share: they train by the one loop, and ABD's parts join in as terms."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor, nn

from distill_lib.datafree.defence import Guard
from distill_lib.training.loop import Schedule, Watch, train


@dataclass(frozen=True)
class GuardedSchedule(Schedule):
    """A schedule whose last steps, those of Self-Retrospection, have a learning rate of their own.

    Attributes:
        plain: The method's own, of any class.
        guard: Knows the last steps.
    """

    plain: Schedule | None = None
    guard: Guard | None = None

    def rate(self, step: int) -> float:
        return self.guard.rate(step, self.plain.rate(step))

    def renews(self, step: int) -> bool:
        return self.guard.renews(step)


class Clock(nn.Module):
    """Counts the steps taken, in a buffer, so that a resumed training knows."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def tick(self) -> int:
        """The number of this step, from 0."""
        number = int(self.steps)
        self.steps += 1
        return number


def train_on_images(
    student: nn.Module,
    guard: Guard,
    views: Callable[[Tensor, Generator], Tensor],
    terms: Callable[[Tensor, Tensor], dict[str, Tensor]],
    count: int,
    schedule: Schedule,
    seed: int,
    watch: Watch | None,
) -> list[dict[str, float]]:
    """Train `student` in place; it is left in eval mode.

    Args:
        student: The student.
        guard: The defence.
        views: (rows, generator) -> images (B, 3, H, W) in [0, 1].
        terms: (images, rows) -> the student's loss terms.
        count: Images in the set.
        schedule: Length, batch, optimiser.
        seed: Of order and everything drawn.
        watch: Reports and checkpoints.
    """
    clock = Clock()
    modules = nn.ModuleDict({"student": student, "clock": clock, **guard.modules()}).train()

    def probes(number: int, source: Generator) -> Tensor:
        return views(torch.randint(count, (number,), generator=source, device=source.device), source)

    def objective(rows: Tensor, generator: Generator) -> dict[str, Tensor]:
        step = clock.tick()
        guard.prepare(step, probes)
        guard.set_mode(step)
        images = views(rows, generator)
        return terms(images, rows) | guard.student_terms(step, images)

    settings = {each.name: getattr(schedule, each.name) for each in fields(Schedule)}
    guarded = GuardedSchedule(**settings, plain=schedule, guard=guard)
    log = train(modules, objective, count, guarded, seed, watch)
    student.eval()
    return guard.noted(log, probes)
