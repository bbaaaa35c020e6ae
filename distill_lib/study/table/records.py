"""What the store knows of jobs that are no notebooks.

`jobs/<key>.json` tells of one that is finished, `failed/<name>.json` of one that failed, with its log beside it: a
failed job would else look the same as one that never ran.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill_lib.study import cost, progress, store
from distill_lib.study.jobs import Job


def path(runs: Path, key: str) -> Path:
    """The record of a finished job."""
    return runs / "jobs" / f"{key}.json"


def progress_file(runs: Path, key: str) -> Path:
    """Beside which the processes that make the job's result say how far they are; there while they do."""
    return runs / "jobs" / f"{key}.progress.json"


def read(runs: Path, key: str) -> dict[str, Any] | None:
    """The record of a finished job; None where there is none that can be read."""
    found = progress.read(path(runs, key))
    return found if isinstance(found, dict) else None


def failure(runs: Path, name: str, key: str) -> dict[str, Any] | None:
    """The record of a job's failure; None where it has not failed, or another job of that name has."""
    found = progress.read(runs / "failed" / f"{name}.json")
    return found if isinstance(found, dict) and found.get("key") == key else None


def forget(runs: Path, name: str) -> None:
    """Remove what is kept of a failure."""
    for old in (runs / "failed").glob(f"{name}.*"):
        if old.stem == name:
            old.unlink(missing_ok=True)


def fail(runs: Path, name: str, key: str, reason: str, message: str, log: str = "") -> None:
    """Record a failure, with what was said."""
    with contextlib.suppress(OSError):
        store.write_text(runs / "failed" / f"{name}.log", log)
    tell(runs, name, key, reason, message)


def tell(runs: Path, name: str, key: str, reason: str, message: str) -> None:
    """Record a failure whose log and notebook, where there are any, lie beside the record."""
    kept = runs / "failed" / name
    found = {"notebook": kept.with_name(f"{name}.ipynb"), "log": kept.with_name(f"{name}.log")}
    beside = {what: str(path) if path.is_file() else None for what, path in found.items()}
    about = {"name": name, "key": key, "reason": reason, "message": message, **beside}
    with contextlib.suppress(OSError):
        store.write_json(kept.with_name(f"{name}.json"), about)


def say_failed(name: str, why: str) -> None:
    """Say so where an engine keeps what a job says."""
    print(f"{name}: FAILED: {why}", file=sys.stderr, flush=True)


def once(runs: Path, job: Job, key: str, finished: Callable[[], bool], make: Callable[[], dict[str, Any]]) -> int:
    """Make a job's result unless it is there, under the lock of its key, and record it.

    Args:
        runs: The store.
        job: Which.
        key: Its key.
        finished: Whether the result is there.
        make: Makes it; gives what the record is to hold beside name, cost and place.

    Returns:
        0.
    """
    with store.exclusive(runs, f"job-{key}", lambda: print(f"{job.name}: waiting: another process runs it")):
        if finished():
            print(f"{job.name}: unchanged")
            return 0
        began = time.monotonic()
        found = make()
        about = {"name": job.name, "key": key, "host": socket.gethostname(), "made_at": time.strftime("%FT%T%z")}
        about |= {"wall_s": round(time.monotonic() - began, 2), "peak_rss_mb": cost.highest_rss_mb(), **found}
        with store.writing(runs):
            store.write_json(path(runs, key), about)
        forget(runs, job.name)
    print(f"{job.name}: done in {about['wall_s']} s")
    return 0


class Commands:
    """Jobs that are commands: a key of what is run, makes, and the keys of what is needed.

    Attributes:
        root: Folder that they run in.
        runs: The store.
    """

    def __init__(self, jobs: Sequence[Job], root: Path, runs: Path) -> None:
        self.root, self.runs = root, runs
        self._keys: dict[str, str] = {}
        for job in jobs:
            needs = [self._keys[name] for name in job.needs]
            self._keys[job.name] = store.digest([job.name, list(job.command), list(job.makes), needs])[:16]

    def key(self, job: Job) -> str:
        """Of the job's result."""
        return self._keys[job.name]

    def finished(self, job: Job) -> bool:
        """Whether it has run, and its files are there."""
        return os.path.exists(path(self.runs, self.key(job))) and all((self.root / n).exists() for n in job.makes)

    def run(self, job: Job) -> int:
        """Run it here; 0, or 1 where it failed."""
        try:
            return once(self.runs, job, self.key(job), lambda: self.finished(job), lambda: self._make(job))
        except Failed as error:
            fail(self.runs, job.name, self.key(job), "error", str(error), error.log)
            say_failed(job.name, str(error))
            return 1

    def _make(self, job: Job) -> dict[str, Any]:
        key, began = self.key(job), time.monotonic()
        log = path(self.runs, key).with_suffix(".log")
        code = _run(job.command, self.root, log)
        text = log.read_text(encoding="utf-8", errors="replace")
        print(text, end="", flush=True)
        if code:
            last = ([line for line in text.splitlines() if line.strip()] or ["it said nothing"])[-1]
            raise Failed(f"the command ended with code {code}: {last.strip()}", text)
        missing = [name for name in job.makes if not (self.root / name).exists()]
        if missing:
            raise Failed(f"the command ended without making {', '.join(missing)}", text)
        store.note_made(self.runs, "command", key, round(time.monotonic() - began, 2))
        return {"makes": list(job.makes)}


def _run(command: Sequence[str], folder: Path, log: Path) -> int:
    """Run a command to its end with all that it says in a file; what ends this process ends it too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        try:
            child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        except OSError as error:
            raise Failed(f"{command[0]!r} cannot be run ({os.strerror(error.errno)})") from None
        try:
            return child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)  # what it left behind, too
            child.wait()


class Failed(Exception):
    """A job did not succeed; `log` is what it said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log
