"""Whether a cluster can run the table: a line for each finding, from here and from a job of one minute."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.study.store import writing
from distill_lib.study.table.table import ROOT, Table
from distill_lib.tools.cluster import slurm
from distill_lib.tools.cluster.slurm import Partition
from distill_lib.tools.cluster.submit import Options, alone, check_wants, log_pattern, logs_folder

PATIENCE = 300.0  # seconds for the job to start and end
NAME, PROBE = "study:doctor", "distill_lib.tools.cluster.probe"
NO_LOCK = "set DISTILL_RUNS to a folder on another file system, or run on one node"


@dataclass(frozen=True)
class Finding:
    """Something looked at, whether it is as it must be, and in words."""

    what: str
    fine: bool
    words: str

    def __str__(self) -> str:
        return f"{'ok ' if self.fine else 'BAD'} {self.what}: {self.words}"


def examine(table: Table, options: Options, say: Callable[[str], None], patience: float = PATIENCE) -> list[Finding]:
    """Look at everything and say each finding as soon as it is known.

    Raises:
        UsageError: If there is no Slurm, no such partition, or the store cannot be written from here.
    """
    found = []
    for finding in _findings(table, options, patience):
        say(str(finding))
        found.append(finding)
    return found


def _findings(table: Table, options: Options, patience: float) -> Iterator[Finding]:
    slurm.require()
    kinds = slurm.chosen(options.partition)
    yield _partition(table, kinds, options)
    with writing(table.runs):
        logs_folder(table.runs).mkdir(parents=True, exist_ok=True)
    with alone(table.runs, lambda text: None):
        yield Finding("store", True, f"{str(table.runs)!r} can be written and locked from here")
    number, trouble = _try(table, options, kinds, patience)
    folder = table.runs / "cluster"
    result, log = folder / f"doctor-{number}.json", folder / "logs" / f"doctor-{number}.log"
    probed = json.loads(result.read_text()) if result.is_file() else {}
    result.unlink(missing_ok=True)
    if trouble or not probed:
        yield Finding("job", False, f"{trouble or 'it ended without a word'}; its log: {log}")
    if probed:
        yield from judge(probed, _wants_gpu(table))


def _wants_gpu(table: Table) -> bool:
    return any(job.gpus for job in table.jobs)


def _partition(table: Table, kinds: list[Partition], options: Options) -> Finding:
    name = ",".join(dict.fromkeys(each.name for each in kinds))
    try:
        check_wants(table.jobs, kinds, options.extra)
    except UsageError as error:
        return Finding("partition", False, str(error))
    nodes, gpus = sum(each.nodes for each in kinds), max(each.gpus for each in kinds)
    return Finding("partition", True, f"{name!r} has {nodes} nodes, at most {gpus} GPUs on one; each job fits")


def _try(table: Table, options: Options, kinds: list[Partition], patience: float) -> tuple[str, str]:
    """Run the probe on two nodes where there are two; gives the job's number and what went wrong."""
    able = sum(each.nodes for each in kinds if each.gpus or not _wants_gpu(table))
    two = able > 1
    log, words = log_pattern(table.runs, "doctor"), [sys.executable, "-m", PROBE, str(table.runs)]
    number = slurm.sbatch(
        [
            f"--job-name={NAME}", f"--comment={slurm.STORE}{table.runs}", f"--output={log}", f"--chdir={ROOT}",
            "--export=ALL", "--time=1", f"--nodes={1 + two}", f"--ntasks={1 + two}", "--ntasks-per-node=1",
            "--no-requeue", *(["--gres=gpu:1"] if _wants_gpu(table) else []), *options.words(),
            f"--wrap=exec {shlex.join(words)}",
        ]
    )  # fmt: skip
    return number, _wait(table.runs, number, patience)


def _wait(runs: Path, number: str, patience: float) -> str:
    """Wait for the job; gives what went wrong."""
    until = time.monotonic() + patience
    while True:
        job = slurm.queue(runs, over=True).get(NAME)
        if job is None or job.id != number or not (job.live or job.ending):
            failed = job is not None and job.id == number and job.state != "COMPLETED"
            return f"job {number} ended as {job.state}" if failed else ""
        if time.monotonic() > until:
            slurm.scancel([number])
            where = f"waits ({job.reason})" if job.pending else f"runs on {job.nodes}"
            return f"job {number} still {where} after {patience:g} seconds and was cancelled"
        time.sleep(0.5)


def judge(probed: dict[str, Any], wants_gpu: bool) -> Iterator[Finding]:
    """The findings of the probe's job."""
    first, second = probed["first"], probed.get("second")
    for node in filter(None, (first, second)):
        writes = node.get("error") or node.get("writes")
        yield Finding("store", not writes, f"{node['node']}: " + (writes or "writes to it"))
    if second is None:
        yield Finding("lock", True, "untried: the job had one node alone; locks between nodes may fail there")
    elif "locked" in second:
        yield _lock(first["node"], second)
    torch = first.get("torch", "was not imported within the minute: its disk is slow")
    works = "cannot" not in torch and "not imported" not in torch
    if not wants_gpu:
        yield Finding("torch", works, f"{first['node']}: {torch.replace(' sees no GPU', ' works, without a GPU')}")
        return
    device = first["device"]
    given = f"Slurm gave device {device}" if device else "Slurm gave no device (CUDA_VISIBLE_DEVICES is empty)"
    yield Finding("GPU", bool(device), f"{first['node']}: {given}")
    yield Finding("torch", "computes on" in torch, f"{first['node']}: {torch}")


def _lock(holder: str, second: dict[str, Any]) -> Finding:
    other = second["node"]
    if not second["sees"]:
        return Finding("lock", False, f"{other} does not see what {holder} writes: no shared folder; {NO_LOCK}")
    if not second["locked"]:
        return Finding("lock", False, f"{other} got the lock that {holder} held: jobs could do work twice; {NO_LOCK}")
    return Finding("lock", True, f"{other} could not take the lock that {holder} held")
