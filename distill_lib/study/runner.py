"""The jobs in sequence, one process a notebook; what is done is skipped, what fails is kept and named."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.study import execute, parameters, progress, store
from distill_lib.study.display import Display, duration, progress_text
from distill_lib.study.jobs import Job


@dataclass(frozen=True)
class Place:
    """Where jobs run.

    Attributes:
        root: The repository: holds `notebooks/`, and is the kernels' working directory.
        runs: The store, and the finished and failed notebooks.
        fingerprint: Gives, as a JSON value, what can change a job's result besides notebook and parameters:
            the profile's settings, code versions, hashes of the data.
        env: Environment variables for the kernels.
        timeout: Seconds that a cell may take; None for any time.
    """

    root: Path
    runs: Path
    fingerprint: Callable[[Job], Any] = lambda job: None
    env: dict[str, str] | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Planned:
    """A job, its key, what its worker is told (JSON), and its record (`job.json`) where it is finished."""

    job: Job
    key: str
    spec: dict[str, Any]
    record: dict[str, Any] | None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `status` is done, unchanged, failed or skipped (it needs one that failed)."""

    job: Job
    key: str
    status: str
    message: str
    record: dict[str, Any] | None = None


def plan(jobs: Sequence[Job], place: Place) -> list[Planned]:
    """Check the jobs' parameters and find those that are finished.

    A job's key is a hash of its name, notebook cells, parameters but `device`, files to make, fingerprint.

    Raises:
        UsageError: If a notebook does not take its parameters.
    """
    planned = []
    for job in jobs:
        notebook = place.root / "notebooks" / f"{job.notebook}.ipynb"
        parameters.check(notebook, job.parameters)
        cells = parameters.read_notebook(notebook)["cells"]
        source = [[c["cell_type"], c["source"], c.get("metadata", {}).get("tags", [])] for c in cells]
        values = {name: value for name, value in job.parameters.items() if name != "device"}
        key = store.digest([job.name, source, values, list(job.makes), place.fingerprint(job)])[:16]
        where = {
            "root": str(place.root),
            "runs": str(place.runs),
            "env": place.env or {},
            "timeout": place.timeout,
        }
        spec = {**asdict(job), "key": key, **where}
        planned.append(Planned(job, key, spec, execute.finished(spec)))
    return planned


def run(
    jobs: Sequence[Job],
    place: Place,
    display: Display | None = None,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run the jobs that are not finished, in order; where one fails, those that do not need it still run.

    Args:
        jobs: In order.
        place: Where.
        display: What shows how far it is.
        ended: Called after each job: what it keeps is kept whatever becomes of the next.

    Raises:
        UsageError: Before anything starts, for parameters that a notebook does not take; later, where a cell
            ends in a UsageError or nothing can be written.
    """
    display, outcomes = display or Display(), []
    for number, planned in enumerate(plan(jobs, place), start=1):
        title = f"[{number}/{len(jobs)}] {planned.job.name}"
        outcome = _one(planned, outcomes, lambda text, title=title: display.live(f"{title}: {text}"))
        display.line(f"{title}: {outcome.message}")
        outcomes.append(outcome)
        ended(outcome)
    return outcomes


def _one(planned: Planned, earlier: list[Outcome], show: Callable[[str], None]) -> Outcome:
    job, key, runs = planned.job, planned.key, Path(planned.spec["runs"])
    lost = [o.job.name for o in earlier if o.status in ("failed", "skipped") and o.job.name in job.needs]
    if planned.record:
        return Outcome(job, key, "unchanged", "unchanged", planned.record)
    if lost:
        return Outcome(job, key, "skipped", f"not run: it needs {', '.join(lost)}")
    with store.exclusive(runs, f"job-{key}", lambda: show("waiting: another process runs it")) as folder:
        record = execute.finished(planned.spec)
        if record:
            return Outcome(job, key, "unchanged", "unchanged: another process ran it", record)
        with store.writing(runs):
            store.write_json(folder / "job.json", {**planned.spec, "parent": os.getpid()})
            code = _supervise(folder, planned.spec["root"], show)
        record = execute.finished(planned.spec)
        if code == 0 and record:
            return Outcome(job, key, "done", f"done in {duration(record['wall_s'])}", record)
        if code not in execute.CODES.values() or code <= 1:
            execute.keep_failed(planned.spec, folder, "error", f"the notebook's process ended with code {code}")
    kept = runs / "failed" / f"{job.name}.json"
    message = (progress.read(kept) or {}).get("message", f"the notebook's process ended with code {code}")
    if code == execute.CODES["usage"]:
        raise UsageError(message)
    return Outcome(job, key, "failed", f"FAILED (code {code}): {message}; kept: {kept.with_suffix('.ipynb')}")


def _supervise(folder: Path, root: str, show: Callable[[str], None]) -> int:
    """Start the worker in a session of its own and show its progress; an exception here ends it."""
    command = [sys.executable, "-m", "distill_lib.study.execute", str(folder / "job.json")]
    with open(folder / "worker.log", "wb") as log:
        worker = subprocess.Popen(
            command, cwd=root, env=execute.importing(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return worker.wait(timeout=0.2)
            show(progress_text(progress.read_all(folder / "progress.json")))
    finally:
        worker.terminate()  # nothing where it has ended
        try:
            worker.wait(timeout=10)
        except subprocess.TimeoutExpired:
            worker.kill()
