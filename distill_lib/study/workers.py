"""Several computations of the study at once: a small encoder does not keep many cores busy, several of them do."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import torch

from distill_lib.data import ImageSet
from distill_lib.study import processes
from distill_lib.study.cells import Cell
from distill_lib.study.config.profile import Profile
from distill_lib.study.jobs import parse_workers
from distill_lib.study.progress import Reporter, beside
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.study.store import Artefact, Busy, Store

PATIENCE = 30.0  # seconds: a training of minutes is not waited for
MOST = 4  # by default: each holds image sets of its own, and a gigabyte with real images


@dataclass(frozen=True)
class Task:
    """What to make, under which settings.

    Attributes:
        profile: All settings, the attack among them.
        make: A module's function (another process must find it by name) of stages and arguments.
        arguments: Those.
    """

    profile: Profile
    make: Callable[..., Any]
    arguments: tuple[Any, ...]

    def run(self, stages: Stages) -> Any:
        """What `make` gives."""
        return self.make(stages.under(self.profile), *self.arguments)

    def done(self, stages: Stages) -> bool:
        """Whether all of it is in the store; nothing is computed."""
        try:
            found = self.run(replace(stages, store=Naming(stages.store.root)))
        except FileNotFoundError:  # of a target that is found with an encoder not there yet
            return False
        return not isinstance(found, Artefact) or stages.store.find(found.kind, found.key) is not None


def measurement(stages: Stages, cell: Cell, on: str) -> Artefact:
    """A cell's measurement, with all that it is made from."""
    return stages.measured(stages.aimed(cell), on=on)


def floor(stages: Stages, cell: Cell) -> Artefact:
    """The same with random weights in the encoder's place."""
    return stages.measured(stages.aimed(cell), encoder=stages.untrained(cell.seed))


def encoders(stages: Stages, downstream: str, seed: int) -> Artefact:
    """The attacked encoder, and the clean one beside it."""
    stages.pretrained(seed)
    return stages.attacked(seed, downstream)


def target_class(stages: Stages, downstream: str, seed: int) -> int:
    """The target class, which some attacks find with the encoder they made."""
    return stages.target(downstream, seed)


def how_many(asked: str | None, device: torch.device) -> int:
    """Processes that compute at once: what is asked for, else one a core (at most 4), and one on a GPU.

    Raises:
        UsageError: As `parse_workers`.
    """
    if asked is not None:
        return parse_workers(asked)
    return 1 if device.type == "cuda" else min(MOST, joblib.cpu_count())


@dataclass(frozen=True)
class Place:
    """Where another process works.

    Attributes:
        root: Of the store.
        progress: File beside which it says how far it is; None: nobody looks.
        patience: Seconds that it waits for another's artefact; None: as long as it takes.
    """

    root: Path
    progress: Path | None
    patience: float | None

    @functools.cached_property
    def store(self) -> Store:
        """The store, with a file of this process's own to report in."""
        return Store(self.root, Reporter(beside(self.progress, os.getpid())) if self.progress else None, self.patience)


@dataclass(frozen=True)
class Workers:
    """Processes that compute at once, each with its share of the cores.

    Attributes:
        count: How many.
        progress: File beside which each says how far it is; None: nobody looks.
    """

    count: int = 1
    progress: Path | None = None

    @property
    def threads(self) -> int:
        """Of each process."""
        return max(1, joblib.cpu_count() // self.count)

    def settle(self, device: torch.device) -> None:
        """Let this process compute as each of them does: on a CPU threads round sums, and another number otherwise."""
        if device.type == "cpu":
            torch.set_num_threads(self.threads)

    def run(self, stages: Stages, tasks: Sequence[Task]) -> None:
        """Make what is not in the store; what would not be shared out is left to whoever asks for it.

        Of tasks that need the same artefact one makes it. The others wait, but not for long: they are put off while
        there may be something else to do.

        Raises:
            UsageError: As the first task that ends in one.
        """
        left, patience = [task for task in tasks if self.count > 1 and not task.done(stages)], PATIENCE
        while len(left) > 1:
            done = self._round(stages, left, patience)
            patience = PATIENCE if any(done) else None  # None: all of it is made by processes not ours
            left = [task for task, made in zip(left, done, strict=True) if not made]

    def _round(self, stages: Stages, tasks: Sequence[Task], patience: float | None) -> list[bool]:
        """Try all tasks; whether each was done."""
        place = Place(stages.store.root.resolve(), self.progress, patience)
        bare = replace(stages, store=None, sets={})  # what each process has of its own
        with joblib.parallel_config("loky", n_jobs=min(self.count, len(tasks)), inner_max_num_threads=self.threads):
            parallel = joblib.Parallel(batch_size=1, pre_dispatch="all")
            return parallel(joblib.delayed(_one)(task, bare, place, os.getpid()) for task in tasks)


ALONE = Workers()


def _one(task: Task, bare: Stages, place: Place, parent: int) -> bool:
    """One task, in a process of its own; False where another process makes what it needs."""
    _watch(parent)
    try:
        task.run(replace(bare, store=place.store, sets=_sets(place.root, bare.data_dir)))
    except Busy:
        return False
    return True


_watch = functools.cache(processes.end_with)


@functools.cache
def _sets(root: Path, data_dir: Path | None) -> dict[tuple[str, str], ImageSet]:
    """The image sets that this process has loaded from there."""
    return {}
