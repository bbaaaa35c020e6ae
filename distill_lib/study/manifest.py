"""How a profile's results were made: versions, hardware, configuration, data, revision, cost of each job."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from distill_lib.study import progress, store
from distill_lib.study.notebooks import study_of

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "papermill",
    "ipykernel",
)


def keep(
    root: Path,
    runs: Path,
    profile: str,
    about: dict[str, Any],
    records: Iterable[dict[str, Any]],
    seeds: Mapping[str, Iterable[int]] | None = None,
) -> None:
    """`write_manifest` of a profile, under its lock: pieces of a profile may end at the same time."""
    with store.exclusive(runs, f"manifest-{profile}"):
        write_manifest(root / "results" / profile / "manifest.json", about, records, seeds)


def write_manifest(
    path: Path,
    about: dict[str, Any],
    records: Iterable[dict[str, Any]],
    seeds: Mapping[str, Iterable[int]] | None = None,
) -> bool:
    """Write `manifest.json` after a run that did something.

    Args:
        path: The manifest; its folder belongs to the repository whose revision is recorded.
        about: What the study says of itself: `configuration`, `data` (source and hash of each image set).
        records: The jobs' records (`job.json`). Where the manifest knows a job's key, its cost stays:
            a notebook that is only drawn again finds its artefacts in the store. `by_seed` says of each study's
            seeds which revision, processor, precision and torch last ran them: a profile may be run in pieces.
        seeds: Others that rows were made of, without a notebook, by study.

    Returns:
        Whether the file changed: not where there is no record that it does not know.
    """
    old, records = progress.read(path) or {}, list(records)
    jobs = dict(old.get("jobs", {}))
    for record in records:
        cost = {name: record[name] for name in ("key", "wall_s", "peak_rss_mb")}
        if jobs.get(record["name"], {}).get("key") != cost["key"]:
            jobs[record["name"]] = cost
    if old and jobs == old.get("jobs") and not seeds:
        return False
    made = {"versions": versions(), "hardware": hardware(), "git": _git(path.parent)}
    with store.writing(path.parent):
        by_seed = dict(old.get("by_seed", {}))
        for study, ran in _ran(records, seeds or {}).items():
            by_seed[study] = {**by_seed.get(study, {}), **dict.fromkeys(ran, _summary({**about, **made}))}
        store.write_json(path, {**about, **made, "by_seed": by_seed, "jobs": jobs})
    return True


def _ran(records: Iterable[dict[str, Any]], seeds: Mapping[str, Iterable[int]]) -> dict[str, list[str]]:
    """By study, the seeds that its jobs were asked for, and others."""
    ran = {study: [*map(str, others)] for study, others in seeds.items()}
    for record in records:
        asked = map(str, record.get("parameters", {}).get("seeds", ()))
        ran.setdefault(study_of(record["notebook"]), []).extend(asked)
    return ran


def _summary(made: dict[str, Any]) -> dict[str, Any]:
    """What may differ between pieces of a profile that were run at different times, perhaps on different machines."""
    hardware = {name: made["hardware"][name] for name in ("cpu", "gpus")}
    revision = {"revision": made["git"]["revision"], "changed": made["git"]["changed"]}
    return {**revision, **hardware, "precision": made.get("precision"), "torch": made["versions"]["torch"]}


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def hardware() -> dict[str, Any]:
    """The processor's name, the cores that this process may use, the GPUs' names, the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _git(folder: Path) -> dict[str, Any]:
    """The revision, and whether code or notebooks differ from it."""
    folder.mkdir(parents=True, exist_ok=True)
    revision = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(folder), "status", "--porcelain", "--", ":/distill_lib", ":/notebooks")
    return {"revision": revision or None, "changed": bool(changed)}


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
