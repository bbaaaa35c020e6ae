"""What jobs of a profile want of an engine: GPUs, minutes and memory, from what was measured."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill_lib.study.config.profile import Profile
from distill_lib.study.table.wants import Want
from distill_lib.study.workers import MOST as PROCESSES

# Where nothing was measured. A limit that is met costs the time since the last checkpoint: the same job goes on there.
MINUTES, MEMORY_MB = 1440.0, 16_000
START = 2.0  # minutes: Python, torch, the images
LEAST = 5.0  # minutes: a shared disk may be slow
MARGIN = 2.0  # over the measured minutes: another machine, a store on a network
SPARE = 1.25  # over the measured memory
READ = "read"  # what a notebook takes that finds all it asks for


class Price:
    """What a job wants.

    The profile's `minutes` has measured minutes by kind of thing (`pretrain`, `attack`, `cell`, ...); the peak memory
    is in the manifest of its committed results.

    Attributes:
        minutes: By kind.
        gpus: Of each job that computes.
        memory_mb: Of each job.
    """

    def __init__(self, profile: Profile, device: str | None, root: Path) -> None:
        self.minutes = profile.minutes
        wanted = profile.device if device in (None, "auto") else device
        self.gpus = int(wanted.startswith("cuda"))
        peak = _peak(root / "results" / profile.name / "manifest.json")
        processes = 1 if self.gpus else 1 + PROCESSES  # the job's own, and those that compute at once
        self.memory_mb = MEMORY_MB if peak is None else math.ceil(SPARE * processes * peak / 500) * 500

    def fill(self, wants: Iterable[Want]) -> dict[str, Any]:
        """Of a job that makes these."""
        wants = list(wants)
        kinds = [want.cost for want in wants] + list(max((want.shared for want in wants), key=len, default=()))
        return self._wants(kinds)

    @property
    def notebook(self) -> dict[str, Any]:
        """Of a notebook that finds all it asks for."""
        return self._wants([READ])

    def _wants(self, kinds: Iterable[str]) -> dict[str, Any]:
        known = [self.minutes.get(kind) for kind in kinds]
        minutes = MINUTES if None in known else max(LEAST, round(START + MARGIN * sum(known), 1))
        return {"gpus": self.gpus, "minutes": minutes, "memory_mb": self.memory_mb}


def _peak(manifest: Path) -> float | None:
    """The largest peak memory of a process, in MB, that a manifest tells of."""
    try:
        jobs = json.loads(manifest.read_text(encoding="utf-8"))["jobs"]
        return max((float(job["peak_rss_mb"]) for job in jobs.values()), default=None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
