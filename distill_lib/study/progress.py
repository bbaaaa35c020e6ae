"""How far a job is: written by the process that computes, read by the one that shows it."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

Terms = dict[str, Any] | None


class NullReporter:
    """Keeps quiet."""

    def report(self, stage: str, step: int, steps: int, terms: Terms = None, kind: str = "") -> None:
        """Do nothing."""


class Reporter:
    """Writes `{job, stage, kind, step, steps, loss, epoch, first, started, updated}`, at most four times a second.

    A stage's first and last step are always written. Errors of the file system are swallowed: a job must not
    fail because nobody can see how far it is.
    """

    def __init__(self, path: Path | str, job: str = "", interval: float = 0.25) -> None:
        self.path, self.job, self.interval = Path(path), job, interval
        self._last: dict[str, Any] = {}
        self._written = 0.0

    def report(self, stage: str, step: int, steps: int, terms: Terms = None, kind: str = "") -> None:
        """Say that `step` of `steps` (0 where unknown) of a stage, in the making of a `kind`, is done.

        Of `terms`, "loss" is shown, or else the first, and "epoch" where it is there. They may be tensors, and are
        read only when written: one on a GPU need not be waited for at each step. Times are in Unix seconds.
        """
        now, last = time.time(), self._last
        fresh = (stage, kind) != (last.get("stage"), last.get("kind")) or step < last["step"]
        since = {"first": step, "started": now} if fresh else {n: last[n] for n in ("first", "started")}
        self._last = {"job": self.job, "stage": stage, "kind": kind, "step": step, "steps": steps, **since}
        if fresh or step >= steps or now - self._written >= self.interval:
            loss = float(terms.get("loss", next(iter(terms.values())))) if terms else None
            shown = {"loss": loss, "epoch": (terms or {}).get("epoch")}
            self._written, temporary = now, self.path.with_name(f"{self.path.name}.{os.getpid()}")
            with contextlib.suppress(OSError):
                temporary.write_text(json.dumps({**self._last, **shown, "updated": now}))
                os.replace(temporary, self.path)


def read(path: Path) -> dict[str, Any] | None:
    """What was last written there, or None."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def beside(path: Path, process: int) -> Path:
    """Where another process says how far it is, of those that one job computes in."""
    return path.with_name(f"{path.stem}.{process}{path.suffix}")


def read_all(path: Path, within: float = 60.0) -> list[dict[str, Any]]:
    """What was last written there and beside it: by the processes that are at work.

    Those have written in the last `within` seconds and not ended their stage; where there is none, the last that wrote.
    """
    found = [read(each) for each in sorted(path.parent.glob(f"{path.stem}*{path.suffix}"))]
    states = sorted((state for state in found if state), key=lambda state: state["updated"])
    going = [s for s in states if s["updated"] > time.time() - within and (not s["steps"] or s["step"] < s["steps"])]
    return going or states[-1:]


def seconds_left(state: dict[str, Any]) -> float | None:
    """The stage's time left at its mean speed since it started or resumed; None where nothing tells."""
    done = state["step"] - state["first"]
    if done <= 0 or state["steps"] <= state["step"]:
        return None
    return (state["steps"] - state["step"]) * (state["updated"] - state["started"]) / done
