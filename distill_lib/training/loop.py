"""The one training loop: every encoder of the study is trained by `train`."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from distill_lib.errors import UsageError, choose
from distill_lib.training.checkpoint import load_checkpoint, save_checkpoint
from distill_lib.training.device import generator

OPTIMISERS = {
    "adam": lambda parameters, s: torch.optim.Adam(parameters, s.lr, weight_decay=s.weight_decay, fused=True),
    "sgd": lambda parameters, s: torch.optim.SGD(
        parameters, s.lr, momentum=s.momentum, weight_decay=s.weight_decay, fused=True
    ),
}
Measure = Callable[[], dict[str, float]]
TOLD_S = 1.0  # seconds after which a report is due between the points of the log
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


@dataclass(frozen=True)
class Schedule:
    """How long, in what batches and with which optimiser.

    Attributes:
        steps: Optimiser steps.
        batch: Images a step.
        optimiser: `adam` or `sgd`.
        lr: Learning rate at the start.
        momentum: Of `sgd`.
        weight_decay: L2 penalty.
        decay: `constant` (as the papers) or `cosine`.
        warmup: Steps over which the learning rate rises from 0.
    """

    steps: int
    batch: int = 128
    optimiser: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    decay: str = "constant"
    warmup: int = 0

    def __post_init__(self):
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("decay", self.decay, SCHEDULES)
        if self.steps < 0 or self.batch < 2 or not self.lr > 0:
            raise UsageError(
                f"steps {self.steps}, batch {self.batch}, lr {self.lr} are impossible; "
                "allowed: steps >= 0, batch >= 2, lr > 0"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * rise * SCHEDULES[self.decay](step / max(1, self.steps))

    def renews(self, step: int) -> bool:
        """Whether the optimiser forgets its moments before a step, as a new one would begin."""
        return False


@dataclass
class Watch:
    """What a training tells the outside, and where it keeps its checkpoint.

    Attributes:
        report: Called as report(step, steps, terms) now and then, with floats; `epoch` is among the terms.
        checkpoint: File to resume from and write to; None: no checkpoints.
        every_s: Seconds between checkpoints.
        log_points: Rows of the log over the whole training.
        saved: Called after each checkpoint.
        measure: Called for each row of the log, which takes what it gives; it draws nothing and changes nothing.
    """

    report: Callable[[int, int, dict[str, float]], None] = lambda *_: None
    checkpoint: Path | None = None
    every_s: float = 20.0
    log_points: int = 50
    saved: Callable[[], None] = lambda: None
    measure: Measure = dict


def train(
    modules: nn.Module, objective: Callable, count: int, schedule: Schedule, seed: int, watch: Watch | None = None
) -> list[dict[str, float]]:
    """Minimise the sum of the objective's terms over the parameters of `modules`.

    Args:
        modules: Holds every trained parameter and every buffer that training changes.
        objective: `objective(rows, generator) -> {name: loss term}` with the rows (B,), int64, of the image set that
            this step uses, and the generator that draws its augmentations; both on the modules' device.
        count: Number of images in the set.
        schedule: Length, batch and optimiser; a batch larger than the set is the whole set.
        seed: Of the data order and of everything the objective draws.
        watch: Reports and checkpoints.

    Returns:
        The log: rows of step, learning rate, the terms and what `watch.measure` gave, about `watch.log_points` of them.

    Raises:
        FloatingPointError: If the loss is found to be no finite number; so do all trainings that are made of this.
    """
    watch = watch or Watch()
    state = _State(modules, schedule, count, seed)
    state.restore(watch.checkpoint)
    every = max(1, schedule.steps // watch.log_points)
    saved = told = time.monotonic()
    while state.step < schedule.steps:
        terms = state.advance(objective)
        logged = state.step % every == 0 or state.step == schedule.steps
        if logged or time.monotonic() - told > TOLD_S:  # reading the terms makes a GPU wait: not at every step
            values, told = {name: float(value) for name, value in terms.items()}, time.monotonic()
            watch.report(state.step, schedule.steps, {**values, "epoch": state.step * state.batch / count})
            if not math.isfinite(sum(values.values())):
                raise FloatingPointError(f"the loss is no longer finite at step {state.step}: {values}")
        if logged:
            state.log.append({"step": state.step, "lr": schedule.rate(state.step - 1), **values, **watch.measure()})
        if watch.checkpoint and time.monotonic() - saved > watch.every_s:
            state.save(watch.checkpoint)
            watch.saved()
            saved = time.monotonic()
    return state.log


class _State:
    """Everything that a resumed training needs to go on as if it had never stopped."""

    def __init__(self, modules: nn.Module, schedule: Schedule, count: int, seed: int):
        self.modules, self.schedule, self.count = modules, schedule, count
        self.batch = min(schedule.batch, count)
        parameters = [p for p in modules.parameters() if p.requires_grad]
        device = parameters[0].device
        self.optimiser = OPTIMISERS[schedule.optimiser](parameters, schedule)
        self.generator = generator(seed, device)
        self.order = torch.empty(0, dtype=torch.int64, device=device)
        self.step, self.log = 0, []

    def rows(self) -> Tensor:
        """The next batch of a fresh random order each epoch; what is left of an epoch under one batch is dropped."""
        if len(self.order) < self.batch:
            self.order = torch.randperm(self.count, generator=self.generator, device=self.order.device)
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return rows

    def advance(self, objective: Callable[[Tensor, Generator], dict[str, Tensor]]) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        if self.schedule.renews(self.step):
            self.optimiser.state.clear()
        terms = objective(self.rows(), self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        sum(terms.values()).backward()
        self.optimiser.step()
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}

    def save(self, path: Path) -> None:
        save_checkpoint(
            path,
            {
                "modules": self.modules.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "order": self.order.clone(),
                "step": self.step,
                "log": self.log,
            },
        )

    def restore(self, path: Path | None) -> None:
        saved = load_checkpoint(path) if path else None
        if saved is None:
            return
        self.modules.load_state_dict(saved["modules"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        self.order = saved["order"].to(self.order.device)
        self.step, self.log = saved["step"], saved["log"]
