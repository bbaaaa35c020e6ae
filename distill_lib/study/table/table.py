"""The table of jobs that an engine runs: a profile cut to pieces that fill the store, or a JSON file of commands.

An engine (Slurm, Snakemake, a shell loop) needs of it the jobs in order with what each wants, `Table.key`,
`Table.finished`, `Table.failure`, and the words that run a job, `Table.command`.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, choose
from distill_lib.study.jobs import Job
from distill_lib.study.table import records

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"[a-z0-9_.-]+", re.ASCII)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Setting of a job in a JSON table -> whether a value is one, and in words.
ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda v: isinstance(v, str) and NAME.fullmatch(v), "lower-case letters, digits, '_', '.', '-'"),
    "command": (lambda v: _is_texts(v) and v, "a list of one or more words"),
    "needs": (_is_texts, "a list of jobs' names"),
    "makes": (_is_texts, "a list of files"),
    "gpus": (lambda v: type(v) is int and v >= 0, "a whole number, at least 0"),
    "minutes": (lambda v: v is None or (is_number(v) and v > 0), "a number above 0"),
    "memory_mb": (lambda v: v is None or (type(v) is int and v > 0), "a whole number of megabytes above 0"),
}
REQUIRED = ("name", "command")


@dataclass(frozen=True)
class Table:
    """The jobs of a study, each after those that it needs.

    Attributes:
        name: The profile's, or the one in the file.
        source: Name of a profile, or path of a TOML profile or JSON table.
        jobs: In an order in which they can run.
        root: The repository, which commands run in and `makes` are relative to.
        runs: The store.
        options: Words that `command` repeats: what the table was made with.
        work: How its jobs are named, found and run.
    """

    name: str
    source: str
    jobs: tuple[Job, ...]
    root: Path
    runs: Path
    options: tuple[str, ...] = ()
    work: Any = None

    @cached_property
    def by_name(self) -> dict[str, Job]:
        """The jobs by name."""
        return {job.name: job for job in self.jobs}

    def job(self, name: str) -> Job:
        """The job of that name.

        Raises:
            UsageError: If there is none.
        """
        if name not in self.by_name:
            raise UsageError(f"unknown job {name!r} of table {self.name!r}; allowed: {_some(self.by_name)}")
        return self.by_name[name]

    def key(self, job: Job) -> str:
        """16 hex characters that name the job's result: of all that can change it."""
        return self.work.key(job)

    def finished(self, job: Job) -> bool:
        """Whether the store has the job's result, whole."""
        return self.work.finished(job)

    def failure(self, job: Job) -> dict[str, Any] | None:
        """What is known of the job's last failure: `reason`, `message`, paths `log` and `notebook`; None: of none."""
        return records.failure(self.runs, job.name, self.key(job))

    def command(self, job: Job) -> list[str]:
        """The words that run the job in the foreground, in any process that finds `distill_lib`."""
        return [sys.executable, "-m", "distill_lib", "job", self.source, job.name, *self.options]

    def run(self, job: Job) -> int:
        """Run the job here unless it is finished; 0, or 1 where it failed.

        Raises:
            UsageError: For what a person can put right.
        """
        return self.work.run(job)


def ordered(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each after those that it needs.

    Raises:
        UsageError: For a name that two have, a need that none is, and needs in a circle.
    """
    by_name: dict[str, Job] = {}
    for job in jobs:
        if by_name.setdefault(job.name, job) is not job:
            raise UsageError(f"two jobs are called {job.name!r}; allowed: a name of its own for each")
    for job in by_name.values():
        for need in job.needs:
            if need not in by_name:
                raise UsageError(f"job {job.name!r} needs {need!r}, which no job is; allowed: {_some(by_name)}")
    try:
        order = list(TopologicalSorter({job.name: job.needs for job in by_name.values()}).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise UsageError(f"the jobs need each other in a circle: {circle}; allowed: needs without one") from None
    return [by_name[name] for name in order]


def _some(names: Iterable[str], most: int = 12) -> str:
    """The first names: a table may have thousands."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} others" if len(names) > most else "")


# ---- a table of commands ---------------------------------------------------------------------------------------------


def commands(path: Path, seeds: Sequence[int] | None, place: tuple[Path, Path]) -> Table:
    """The table in a JSON file: {"name": ..., "jobs": [{"name": ..., "command": [...], ...}]}."""
    if seeds is not None:
        raise UsageError(f"seeds {list(seeds)} mean nothing to {str(path)!r}; allowed: none with a table of commands")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r} is no JSON table that can be read ({type(error).__name__})") from error
    if not (isinstance(found, dict) and isinstance(found.get("jobs"), list) and isinstance(found.get("name"), str)):
        raise UsageError(f"{str(path)!r} is no table; allowed: an object with 'name' (text) and 'jobs' (a list)")
    jobs = ordered(_command(each, number) for number, each in enumerate(found["jobs"], start=1))
    return Table(found["name"], str(path.resolve()), tuple(jobs), *place, work=records.Commands(jobs, *place))


def _command(values: Any, number: int) -> Job:
    """A job of a JSON table."""
    if not isinstance(values, dict):
        raise UsageError(f"job {number} of the table is {values!r}; allowed: an object")
    for name in (*REQUIRED, *values):
        fits, allowed = choose(f"setting of job {number}", name, ALLOWED)
        if not fits(values.get(name)):
            who = values.get("name", number)
            raise UsageError(f"{name!r} of job {who!r} is {values.get(name)!r}; allowed: {allowed}")
    lists = {each.name for each in fields(Job) if each.name in ("needs", "makes", "command")}
    return Job(**{name: tuple(value) if name in lists else value for name, value in values.items()})
