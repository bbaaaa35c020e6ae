"""Slurm's programs, as functions: what is in the queue, which partitions there are, submit, cancel."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_lib.errors import UsageError

PROGRAMS = ("sbatch", "squeue", "sinfo", "scancel")
PATIENCE = 60  # seconds for an answer; Slurm's own is ten
AT_ONCE = 500  # job numbers on one command line
# States of a job that is over. One that is COMPLETING is over too, but for its node, which takes a moment.
OVER = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED"}
)
STORE = "store:"  # a job's comment: whose it is, should two stores of one person know the same key
UNTOLD = 1  # MB of a node whose memory is not in Slurm's settings
INFINITE = ("infinite", "n/a", "")


class SlurmError(UsageError):
    """Slurm said no, or nothing; the message has its words."""


@dataclass(frozen=True)
class Queued:
    """A job as the queue has it."""

    id: str
    name: str
    state: str
    used: str  # time since its start: 1:02:03
    nodes: str
    reason: str
    comment: str

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in OVER and not self.ending

    @property
    def ending(self) -> bool:
        """Whether its process is over and its node not yet free."""
        return self.state == "COMPLETING"

    @property
    def pending(self) -> bool:
        """Whether it has not started."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Partition:
    """What one kind of nodes of a partition offers; `minutes` is the partition's limit, None where it has none."""

    name: str
    default: bool
    minutes: float | None
    memory_mb: int | None  # of one node; None where Slurm was not told: it then refuses every --mem
    gpus: int  # of one node
    nodes: int
    cores: int = 1  # of one node


def missing() -> str | None:
    """A program of Slurm's that is missing here; None where all are on the PATH."""
    return next((program for program in PROGRAMS if shutil.which(program) is None), None)


def require() -> None:
    """A UsageError where this machine has no Slurm."""
    program = missing()
    if program:
        raise UsageError(
            f"no {program!r} on the PATH; allowed: a login node of a Slurm cluster (perhaps `module load slurm`), "
            "--dry-run to see the jobs, or run_all.sh and Snakemake on this machine"
        )


def call(program: str, *arguments: str, keep: Iterable[int] = ()) -> str:
    """What a program of Slurm's printed.

    Args:
        program: Its name.
        arguments: Its arguments.
        keep: Open files that it inherits.

    Raises:
        SlurmError: With its words, where it fails or does not answer.
    """
    # Settings of a person's own squeue would hide jobs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_"))}
    try:
        done = subprocess.run(
            [program, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=PATIENCE, pass_fds=tuple(keep),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{program} did not answer in {PATIENCE} seconds") from None
    except FileNotFoundError:
        raise SlurmError(f"no {program!r} on the PATH") from None
    if done.returncode:
        raise SlurmError(_words(program, done.stderr or done.stdout or f"ended with code {done.returncode}"))
    return done.stdout


def _words(program: str, text: str) -> str:
    """The line that says why, without Slurm's prefixes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if re.search("error|fail|fatal", line)] or lines or ["no word"]
    why = re.sub(rf"^{program}: ((error|fatal): )?", "", said[-1])
    return f"{program}: {why}"


def queue(runs: Path, over: bool = False) -> dict[str, Queued]:
    """The caller's jobs for this store by name: of several of one name the one that lives, else the last.

    Args:
        runs: The store.
        over: Those too that are over, as long as the controller remembers them.
    """
    found: dict[str, Queued] = {}
    states = ("--states=all",) if over else ()
    text = call("squeue", "--noheader", "--me", *states, "--format=%i|%j|%T|%M|%N|%r|%k")
    entries = [Queued(*line.split("|", 6)) for line in text.splitlines() if line.count("|") >= 6]
    for entry in sorted(entries, key=lambda entry: (entry.live, _number(entry.id))):
        if not entry.comment.startswith(STORE) or entry.comment == f"{STORE}{runs}":
            found[entry.name] = entry
    return found


def _number(identity: str) -> int:
    return int(re.match(r"\d*", identity)[0] or 0)


def partitions() -> list[Partition]:
    """All partitions, an entry for each kind of nodes."""
    text = call("sinfo", "--noheader", "--all", "--exact", "--format=%R|%P|%l|%m|%D|%c|%G")
    found = []
    for line in filter(None, text.splitlines()):
        name, marked, limit, memory, nodes, cores, gres = line.split("|", 6)
        default, gpus, memory_mb = marked.endswith("*"), _gpus(gres), _number(memory)
        memory_mb = memory_mb if memory_mb > UNTOLD else None
        found.append(Partition(name, default, minutes(limit), memory_mb, gpus, _number(nodes), _number(cores)))
    return found


def minutes(limit: str) -> float | None:
    """Slurm's `days-hours:minutes:seconds` in minutes; None for no limit."""
    if limit.strip().lower() in INFINITE:
        return None
    days, _, clock = limit.rpartition("-")
    hours, mins, seconds = ([0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + mins + seconds / 60


def _gpus(gres: str) -> int:
    """`gpu:2`, `gpu:a100:4(S:0-1)`, `gpu:a100:2,gpu:v100:2,shard:8`: how many."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,]+)?:(\d+)", plain))


def chosen(name: str | None) -> list[Partition]:
    """The entries of the partition of that name (several: `a,b`), of the default one for None.

    Raises:
        UsageError: If there is none.
    """
    known = partitions()
    names = ", ".join(dict.fromkeys(each.name for each in known))
    if name is None:
        found = [each for each in known if each.default]
        if not found:
            raise UsageError(f"no --partition given, and Slurm has no default one; allowed: {names}")
        return found
    for part in name.split(","):
        if part not in (each.name for each in known):
            raise UsageError(f"unknown partition {part!r}; allowed: {names}")
    return [each for each in known if each.name in name.split(",")]


def sbatch(arguments: Sequence[str], keep: Iterable[int] = ()) -> str:
    """Submit; gives the job's number."""
    return call("sbatch", "--parsable", *arguments, keep=keep).split(";")[0].strip().splitlines()[-1]


def scancel(numbers: Sequence[str]) -> None:
    """Cancel jobs; those that are over by now are no error."""
    for start in range(0, len(numbers), AT_ONCE):
        call("scancel", "--quiet", *numbers[start : start + AT_ONCE])
