"""The job table: the study as plain data, expanded from a profile by one pure function."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from distill_lib.errors import UsageError, choose

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Job:
    """A piece of work, and what an engine must know to run it: it knows of no engine.

    It is one of three: a notebook with its parameters; a command; a fill, which makes a part of what notebooks read.
    """

    name: str
    notebook: str = ""  # the stem: notebooks/<notebook>.ipynb
    parameters: dict[str, Any] = field(default_factory=dict)  # JSON values: of the notebook, or which fill it is
    needs: tuple[str, ...] = ()  # names of jobs that come before
    makes: tuple[str, ...] = ()  # files, relative to the repository, that must be there afterwards
    gpus: int = 0
    minutes: float | None = None  # expected; None where not measured
    memory_mb: int | None = None  # likewise
    command: tuple[str, ...] = ()  # what is run, where it is no notebook


class ProfileLike(Protocol):
    """A profile: entries have `notebook` (stem), `parameters`, maybe `needs`, `makes`, `gpus`, `minutes`."""

    name: str
    notebooks: Sequence[Any]


def expand(
    profile: ProfileLike,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    device: str | None = None,
) -> list[Job]:
    """The jobs of a profile in its own order, but each after those that it needs.

    Args:
        profile: The profile; its name is every notebook's parameter `profile`.
        seeds: Replace the `seeds` parameter of every notebook that has one.
        only: Notebook stems: these, and what they need.
        device: The `device` parameter of every notebook.

    Raises:
        UsageError: For a notebook that the profile does not have, and for needs that go in a circle.
    """
    entries = {entry.notebook: entry for entry in profile.notebooks}
    wanted: list[str] = []
    for stem in entries if only is None else only:
        _visit(stem, entries, wanted)
    order: list[str] = []
    for stem in entries:
        if stem in wanted:
            _visit(stem, entries, order)
    return [_job(profile.name, entries[stem], seeds, device) for stem in order]


def _visit(stem: str, entries: dict[str, Any], order: list[str], above: tuple[str, ...] = ()) -> None:
    """Append a notebook to the order, after what it needs."""
    entry = choose("notebook", stem, entries)
    if stem in above:
        raise UsageError(f"the notebooks need each other in a circle: {' -> '.join((*above, stem))}")
    if stem not in order:
        for need in getattr(entry, "needs", ()):
            _visit(need, entries, order, (*above, stem))
        order.append(stem)


def _job(profile: str, entry: Any, seeds: Sequence[int] | None, device: str | None) -> Job:
    parameters = {"profile": profile, **entry.parameters}
    if seeds is not None and "seeds" in parameters:
        parameters["seeds"] = list(seeds)
    if device is not None:
        parameters["device"] = device
    lists = {name: tuple(getattr(entry, name, ())) for name in ("needs", "makes")}
    cost = {"gpus": getattr(entry, "gpus", 0), "minutes": getattr(entry, "minutes", None)}
    return Job(entry.notebook, entry.notebook, parameters, **lists, **cost)


def parse_seeds(text: str) -> list[int]:
    """Seeds, sorted, from a number (`3`), a range with both ends (`0-5`), or a list of these (`0-2,7`)."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < MOST_SEEDS:
            allowed = f"a number (3), a range (0-5) or a list of these (0,2,4), at most {MOST_SEEDS} seeds"
            raise UsageError(f"--seeds {text!r} is not a list of seeds; allowed: {allowed}")
        seeds.update(range(first, last + 1))
    return sorted(seeds)


def parse_workers(text: str) -> int:
    """How many processes compute at once.

    Raises:
        UsageError: If that is no whole number from 1 up.
    """
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"the number of workers is {text!r}; allowed: a whole number from 1 up")
    return int(text)
