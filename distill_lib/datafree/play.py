"""The loop of methods in which two optimisers take turns; everything else is trained by `training.loop.train`.

It keeps the same contract: the same `Watch`, a log of the same form, checkpoints from which a killed run goes on to a
result equal bit for bit.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from distill_lib.training.checkpoint import load_checkpoint, save_checkpoint
from distill_lib.training.device import generator
from distill_lib.training.loop import Watch


@dataclass
class Play:
    """What is played.

    Attributes:
        modules: Every parameter and buffer that a turn changes.
        optimisers: By name.
        turn: `turn(number, generator) -> {name: detached scalar}`; it steps the optimisers itself and draws from the
            generator alone. The number counts from 0.
        turns: How many.
        rate: Learning rate of a turn, for the log.
    """

    modules: nn.ModuleDict
    optimisers: dict[str, torch.optim.Optimizer]
    turn: Callable[[int, Generator], dict[str, Tensor]]
    turns: int
    rate: Callable[[int], float]


@dataclass
class _State:
    """Where a play stands."""

    source: Generator
    step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    latest: dict[str, Tensor] = field(default_factory=dict)  # turns of two kinds report different terms


def run(play: Play, seed: int, watch: Watch | None = None) -> list[dict[str, float]]:
    """Play all turns, or those that a checkpoint leaves.

    Args:
        play: What is played.
        seed: Of everything that is drawn.
        watch: Reports and checkpoints.

    Returns:
        The log: rows of step, learning rate and every term's last value, about `watch.log_points` of them.
    """
    watch = watch or Watch()
    state = _State(generator(seed, next(play.modules.parameters()).device))
    _restore(play, state, watch.checkpoint)
    every, saved = max(1, play.turns // watch.log_points), time.monotonic()
    while state.step < play.turns:
        state.latest |= play.turn(state.step, state.source)
        state.step += 1
        if state.step % every == 0 or state.step == play.turns:
            values = {name: float(value) for name, value in state.latest.items()}
            state.log.append({"step": state.step, "lr": play.rate(state.step - 1), **values})
            watch.report(state.step, play.turns, values)
            if not math.isfinite(sum(values.values())):
                raise FloatingPointError(f"a loss is no longer finite at turn {state.step}: {values}")
        if watch.checkpoint and time.monotonic() - saved > watch.every_s:
            _save(play, state, watch.checkpoint)
            saved = time.monotonic()
    return state.log


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float | None = None) -> None:
    """One step on the optimiser's own parameters.

    Gradients are taken by these alone: in the generator's turn, the student's weights in the graph cost nothing.

    Args:
        optimiser: Whose parameters.
        loss: A scalar.
        rate: Learning rate of this step.
        clip: Largest norm of the gradient; None: as it is.
    """
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    for each, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        each.grad = gradient
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _save(play: Play, state: _State, path: Path) -> None:
    optimisers = {name: each.state_dict() for name, each in play.optimisers.items()}
    save_checkpoint(
        path,
        {
            "modules": play.modules.state_dict(),
            "optimisers": optimisers,
            "generator": state.source.get_state(),
            "step": state.step,
            "log": state.log,
            "latest": state.latest,
        },
    )


def _restore(play: Play, state: _State, path: Path | None) -> None:
    saved = load_checkpoint(path) if path else None
    if saved is None:
        return
    play.modules.load_state_dict(saved["modules"])
    for name, each in play.optimisers.items():
        each.load_state_dict(saved["optimisers"][name])
    state.source.set_state(saved["generator"])
    state.step, state.log, state.latest = saved["step"], saved["log"], saved["latest"]
