"""One `sbatch` for each job that the store lacks and the queue does not hold."""

import contextlib
import errno
import fcntl
import math
import os
import re
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill_lib.errors import UsageError
from distill_lib.study.jobs import Job
from distill_lib.study.store import writing
from distill_lib.study.table.stamps import CORES
from distill_lib.study.table.table import ROOT, Table
from distill_lib.tools.cluster import slurm
from distill_lib.tools.cluster.slurm import Partition, Queued

PATIENCE = 120.0  # seconds for another command on this store: a thousand jobs take it less than thirty
SETTLING = 5.0  # seconds for a job that ends to have ended
# What `--extra` must leave alone: by these a job is found again, or made one job of the table.
OURS = re.compile(
    r"-(J|d|o|e|D|a|W|H|N|n)|--(job-name|comment|dependency|kill-on-invalid-dep|output|error|chdir|array|wait|wrap|hold"
    r"|parsable|test-only|nodes|ntasks)"
)


# Want of a job -> its unit, the options of sbatch that ask for another amount, and what helps where it is too much.
WANTS = {
    "gpus": (
        "GPUs of one node",
        {"--gres", "--gpus", "-G", "--gpus-per-node"},
        "another --partition, or a profile without GPUs",
    ),
    "memory_mb": ("MB of one node", {"--mem", "--mem-per-cpu"}, "another --partition, or --extra=--mem=..."),
    "minutes": ("minutes", {"--time", "-t"}, "another --partition, or a smaller --time-scale"),
}


@dataclass(frozen=True)
class Options:
    """What a person adds to each `sbatch`."""

    partition: str | None = None
    account: str | None = None
    extra: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """As sbatch takes them."""
        named = {"partition": self.partition, "account": self.account}
        return [*(f"--{name}={value}" for name, value in named.items() if value), *self.extra]


@dataclass
class Plan:
    """What is to be done: `doomed` are jobs in the queue that wait for one that is no more."""

    done: set[str] = field(default_factory=set)
    kept: dict[str, Queued] = field(default_factory=dict)  # by the job's name in the table
    todo: list[Job] = field(default_factory=list)
    doomed: list[Queued] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.done)} done, {len(self.kept)} in the queue"


def parse_extra(texts: Sequence[str]) -> tuple[str, ...]:
    """Words for sbatch.

    Raises:
        UsageError: For those that the command gives itself.
    """
    try:
        words = tuple(word for text in texts for word in shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--extra {' '.join(texts)!r} cannot be read ({error}); allowed: words for sbatch") from None
    for word in words:
        option = word.split("=")[0] if word.startswith("--") else word[:2]
        if OURS.fullmatch(option):
            raise UsageError(
                f"--extra {word!r} would undo what makes this one job of the table; allowed: others of sbatch's "
                "options, such as --extra=--qos=long or --extra='--constraint=a100 --cpus-per-task=8'"
            )
    return words


def job_name(table: Table, job: Job) -> str:
    """The job's name in the queue."""
    return f"study:{table.key(job)}"


def logs_folder(runs: Path) -> Path:
    """What Slurm's jobs print, a file for each attempt."""
    return runs / "cluster" / "logs"


def log_pattern(runs: Path, stem: str) -> str:
    """A log's path as Slurm takes it, which puts in the job's number."""
    return str(logs_folder(runs) / stem).replace("%", "%%") + "-%j.log"


def check_wants(jobs: Sequence[Job], kinds: Sequence[Partition], extra: Sequence[str] = ()) -> None:
    """Find out before the first submission whether some node can run each job.

    Args:
        jobs: Those to submit.
        kinds: The partition.
        extra: A person's words for sbatch: what they ask for in place of a want is left to Slurm.

    Raises:
        UsageError: If none can: Slurm would keep some such jobs waiting for ever.
    """
    name = ",".join(dict.fromkeys(each.name for each in kinds))
    longest = [each.minutes for each in kinds]
    most = {
        "gpus": max(each.gpus for each in kinds),
        "memory_mb": memory(kinds) or math.inf,
        "minutes": math.inf if None in longest else max(longest),
    }
    given = {word.split("=")[0] for word in extra}
    for want, (unit, options, allowed) in WANTS.items():
        for job in () if given & options else jobs:
            amount = math.ceil(getattr(job, want) or 0)
            if amount > most[want]:
                raise UsageError(
                    f"job {job.name!r} wants {amount} {unit}; partition {name!r} has at most {most[want]:.10g}; "
                    f"allowed: {allowed}"
                )


def plan(table: Table, queue: Mapping[str, Queued]) -> Plan:
    """Sort the table's jobs; the queue must have been read before, lest a job that ends now be seen in neither."""
    found = Plan()
    for job in table.jobs:
        queued = queue.get(job_name(table, job))
        queued = queued if queued and queued.live else None
        if table.finished(job):
            found.done.add(job.name)
        elif queued and (not queued.pending or _hopeful(job, queued, found)):
            found.kept[job.name] = queued
        else:
            found.todo.append(job)
            found.doomed += [queued] if queued else []
    return found


def _hopeful(job: Job, queued: Queued, found: Plan) -> bool:
    """Whether all that a waiting job waits for is done or will be: else Slurm is about to cancel it."""
    there = all(need in found.done or need in found.kept for need in job.needs)
    return there and queued.reason != "DependencyNeverSatisfied"


def memory(kinds: Sequence[Partition]) -> int:
    """MB of the largest node; 0 where Slurm does not know."""
    return max((each.memory_mb or 0 for each in kinds), default=0)


def cores(job: Job, kinds: Sequence[Partition] = ()) -> int:
    """Of a job: a command has one; one of the study as many as it computes in processes, or as the largest node has."""
    return 1 if job.command else min(CORES, max((each.cores for each in kinds), default=CORES))


def arguments(
    table: Table, job: Job, options: Options, after: Sequence[str] = (), kinds: Sequence[Partition] = ()
) -> list[str]:
    """The words for sbatch.

    Args:
        table: The job's.
        job: Which.
        options: A person's.
        after: Numbers of the jobs in the queue that it waits for.
        kinds: The partition.
    """
    words = [
        f"--job-name={job_name(table, job)}",
        f"--comment={slurm.STORE}{table.runs}",
        f"--output={log_pattern(table.runs, f'{job.name}-{table.key(job)}')}",
        "--open-mode=append",  # of a requeued job, both attempts
        f"--chdir={ROOT}",
        "--export=ALL",
        "--requeue",  # a lost node: what was done is in the store or a checkpoint, and a lock keeps it one
        "--kill-on-invalid-dep=yes",  # else what waits for a failed job waits for ever
        f"--cpus-per-task={cores(job, kinds)}",
    ]
    if after:
        words.append(f"--dependency=afterok:{':'.join(after)}")
    if job.gpus:
        words.append(f"--gres=gpu:{job.gpus}")
    if job.minutes:
        words.append(f"--time={max(1, math.ceil(job.minutes))}")
    if job.memory_mb and (memory(kinds) or not kinds):
        words.append(f"--mem={job.memory_mb}M")
    # In place of the shell, so that Slurm's signals reach the job.
    return [*words, *options.words(), f"--wrap=exec {shlex.join(table.command(job))}"]


def submit(table: Table, options: Options, say: Callable[[str], None]) -> Plan:
    """Submit what is missing, one process at a time for a store.

    Raises:
        UsageError: If anything is wrong; what was submitted until then is said, and the next call goes on from there.
    """
    slurm.require()
    kinds = slurm.chosen(options.partition)
    with writing(table.runs):
        logs_folder(table.runs).mkdir(parents=True, exist_ok=True)
    with alone(table.runs, say) as lock:
        found = plan(table, settled_queue(table.runs))
        check_wants(found.todo, kinds, options.extra)
        if found.doomed:
            slurm.scancel([queued.id for queued in found.doomed])
        numbers = {name: queued.id for name, queued in found.kept.items()}
        for count, job in enumerate(found.todo):
            after = [numbers[need] for need in job.needs if need in numbers]
            try:
                # A submission that outlives a killed command keeps the lock, until the queue has the job.
                numbers[job.name] = slurm.sbatch(arguments(table, job, options, after, kinds), keep=[lock])
            except UsageError as error:
                raise UsageError(_partial(count, len(found.todo), job, error)) from None
            if count % 100 == 99:
                say(f"submitted {count + 1} of {len(found.todo)}")
    return found


def _partial(count: int, of: int, job: Job, error: UsageError) -> str:
    """What is said of an sbatch that failed."""
    if not count:
        return f"nothing was submitted: for job {job.name!r}, {error}"
    return f"submitted {count} of {of} jobs, then for job {job.name!r}, {error}; the same command again goes on there"


def settled_queue(runs: Path) -> dict[str, Queued]:
    """The queue, once no job in it is about to leave: a failed one would else be waited for."""
    until = time.monotonic() + SETTLING
    while True:
        found = slurm.queue(runs)
        if not any(queued.ending for queued in found.values()) or time.monotonic() > until:
            return found
        time.sleep(0.3)


@contextlib.contextmanager
def alone(runs: Path, say: Callable[[str], None], patience: float = PATIENCE) -> Iterator[int]:
    """Hold the store's lock for commands that change the queue; gives the open file that holds it.

    Raises:
        UsageError: If the store cannot be written or locked, or another command holds the lock for too long.
    """
    path = runs / "locks" / "cluster.lock"
    with writing(runs):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until, waiting = time.monotonic() + patience, False
        while not _locked(runs, file):
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            if time.monotonic() > until:
                raise UsageError(
                    f"{str(path)!r} has been locked by {holder} for more than {patience:g} seconds; allowed: one "
                    "submit or cancel at a time for a store: try again when that one has ended"
                )
            if not waiting:
                say(f"waiting for {holder}, which submits or cancels jobs of this store")
            waiting = True
            time.sleep(0.1)
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield file
    finally:
        os.close(file)


def _locked(runs: Path, file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise UsageError(
            f"cannot lock in {str(runs)!r} ({os.strerror(error.errno)}); allowed: a store (DISTILL_RUNS) on a file "
            "system with locks"
        ) from None
    return True
