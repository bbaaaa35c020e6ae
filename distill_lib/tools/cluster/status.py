"""What has become of each job: told by the store, the queue, the records of failures, and what Slurm wrote in logs."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill_lib.study.display import progress_text
from distill_lib.study.jobs import Job
from distill_lib.study.progress import read_all
from distill_lib.study.table import records
from distill_lib.study.table.table import Table
from distill_lib.tools.cluster import slurm
from distill_lib.tools.cluster.slurm import Queued, SlurmError
from distill_lib.tools.cluster.submit import job_name, logs_folder
from distill_lib.tools.cluster.wants import counted

STATES = ("done", "running", "pending", "failed", "missing")
SHOWN = 20  # jobs of one state, unless they failed
TAIL, LAST = 4096, 5  # bytes at the end of a log, and lines
MORE_TIME = "time limit (submit again: it goes on from its checkpoint; --time-scale 2 gives it twice the time)"
MORE_MEMORY = "out of memory (submit with --extra=--mem=... of more)"
# State of a job that is over -> why it is not done.
CAUSES = {
    "TIMEOUT": MORE_TIME,
    "DEADLINE": MORE_TIME,
    "NODE_FAIL": "its node failed (submit again)",
    "BOOT_FAIL": "its node did not start (submit again)",
    "OUT_OF_MEMORY": MORE_MEMORY,
    "PREEMPTED": "preempted (submit again)",
    "REVOKED": "revoked (submit again)",
}
# The same from what Slurm writes into the log: it stays when the queue has forgotten.
WRITTEN = {
    "DUE TO TIME LIMIT": MORE_TIME,
    "DUE TO NODE FAILURE": CAUSES["NODE_FAIL"],
    "DUE TO PREEMPTION": CAUSES["PREEMPTED"],
    "oom-kill": MORE_MEMORY,
    "out-of-memory": MORE_MEMORY,
}
CANCELLED = "cancelled"
WAITS = {
    "Dependency": "waits for other jobs",
    "Priority": "waits for its turn",
    "Resources": "waits for a free node",
    "JobHeldUser": "held (scontrol release lets it go)",
    "JobHeldAdmin": "held by an administrator",
    "DependencyNeverSatisfied": "waits for a job that failed: about to be cancelled",
}


@dataclass(frozen=True)
class State:
    """A job, which of STATES it is in, why, and its log (of the last attempt, where there is one)."""

    job: Job
    state: str
    why: str = ""
    log: Path | None = None


def states(table: Table) -> list[State]:
    """The state of each job of the table; the queue is read before the store, lest a job be seen in neither."""
    now = slurm.queue(table.runs, over=True)
    history, logs = _history(), _logs(table.runs)
    found: dict[str, State] = {}
    for job in table.jobs:
        name = job_name(table, job)
        ended = now.get(name) or history.get(name)
        found[job.name] = _state(table, job, ended, logs.get(table.key(job)), found)
    return list(found.values())


def _state(table: Table, job: Job, queued: Queued | None, log: Path | None, found: Mapping[str, State]) -> State:
    if table.finished(job):
        return State(job, "done", "", log)
    if queued and (queued.live or queued.ending):
        if queued.pending:
            return State(job, "pending", WAITS.get(queued.reason, queued.reason), log)
        far = read_all(records.progress_file(table.runs, table.key(job)))
        text = f": {progress_text(far)}" if far else ""
        return State(job, "running", f"job {queued.id} on {queued.nodes}, for {queued.used}{text}", log)
    written = _written(log) if log and not (queued and queued.state == "FAILED") else None
    slurms = CAUSES.get(queued.state) if queued else None
    record = table.failure(job)
    cause = slurms or (written if written != CANCELLED else None)
    if cause:
        return State(job, "failed", cause, log)
    if (queued and queued.state == "CANCELLED") or written == CANCELLED:
        return State(job, "missing", _lost(job, found) or CANCELLED, log)
    if record:
        kept = f"; kept: {record['notebook']}" if record.get("notebook") else ""
        return State(job, "failed", f"{record['message']}{kept}", Path(record["log"]) if record.get("log") else log)
    if log:
        return State(job, "failed", f"ended without a result: {_last(log) or 'its log is empty'}", log)
    if queued and queued.state == "FAILED":
        return State(job, "failed", f"Slurm did not start it ({queued.reason})", log)
    return State(job, "missing", _lost(job, found) or "not submitted", log)


def _lost(job: Job, found: Mapping[str, State]) -> str:
    """Which need barred the job's way, if one did."""
    barred = {"failed": "failed", "missing": "is missing"}
    lost = (need for need in job.needs if found[need].state in barred)
    return next((f"not run: it needs {need}, which {barred[found[need].state]}" for need in lost), "")


def _history() -> dict[str, Queued]:
    """What `sacct` remembers longer than the queue, where there is one: the last attempt by name."""
    try:
        since = ("--starttime=now-30days", "--format=JobIDRaw,JobName%40,State%30,Elapsed,NodeList")
        text = slurm.call("sacct", "--allocations", "--noheader", "--parsable2", *since)
    except SlurmError:
        return {}
    found = {}
    for line in text.splitlines():
        identity, name, state, used, nodes = (line.split("|") + [""] * 5)[:5]
        if name.startswith("study:"):
            state = (state.split() or [""])[0]  # "CANCELLED by 0"
            found[name] = Queued(identity, name, state if state in slurm.OVER else "FORGOTTEN", used, nodes, "", "")
    return {name: each for name, each in found.items() if not each.live}


def _logs(runs: Path) -> dict[str, Path]:
    """The log of the last attempt by the job's key."""
    numbered: dict[str, tuple[int, str]] = {}
    try:
        names = os.listdir(logs_folder(runs))
    except OSError:
        return {}
    for name in names:
        match = re.fullmatch(r".*-([0-9a-f]{16})-(\d+)\.log", name)
        if match:
            numbered[match[1]] = max(numbered.get(match[1], (0, "")), (int(match[2]), name))
    return {key: logs_folder(runs) / name for key, (_, name) in numbered.items()}


def _tail(log: Path) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _written(log: Path) -> str | None:
    """Why Slurm ended the job, by what it wrote at the log's end: before that is an earlier attempt's."""
    for line in reversed(_tail(log)[-LAST:]):
        if "slurmstepd" in line:
            for mark, cause in WRITTEN.items():
                if mark in line:
                    return cause
            if "CANCELLED AT" in line:
                return CANCELLED
    return None


def _last(log: Path) -> str:
    return (_tail(log) or [""])[-1]


def lines(table: Table, found: list[State]) -> Iterator[str]:
    """The states as a person reads them: numbers, then each job that is neither done nor one of too many."""
    counts = Counter(each.state for each in found)
    yield f"{table.name}: {counted(len(found))}: " + ", ".join(f"{counts[state]} {state}" for state in STATES)
    for state in STATES[1:]:
        mine = [each for each in found if each.state == state]
        for each in mine if state == "failed" else mine[:SHOWN]:
            yield f"  {state:8s} {each.job.name}: {each.why}"
            if state == "failed" and each.log:
                yield f"           log: {each.log}"
        if state != "failed" and len(mine) > SHOWN:
            yield f"  {state:8s} and {len(mine) - SHOWN} others"
