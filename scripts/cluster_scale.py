"""How long the job table's engines take to say what is to be done: results/cluster/scale.json.

    python scripts/cluster_scale.py [--jobs 1000 --many 10000] [--snakemake PROGRAM]

Submits a table of jobs that do nothing to the Slurm at hand (tests/slurm/up.sh brings one up), twice, and cancels them;
lists a larger one with --dry-run; and asks `snakemake -n` what it would run, where there is one. Every job of the table
stands for a fill or a notebook: chains of four with one that needs them all, as a seed has. A bar that is missed makes
the exit code 1.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, whole_number
from distill_lib.study import manifest, store
from distill_lib.tools.cluster import slurm

ROOT = Path(__file__).resolve().parents[1]
CHAIN = 4
# Figure -> at most so much: seconds, or processor seconds.
BARS = {"submit_s": 30, "submit_again_s": 3, "dry_run_s": 5, "snakemake_cpu_s": 10}


def table(number: int) -> dict[str, Any]:
    """A table of jobs that would only say their number: chains, and every hundredth needs the 99 before it."""
    jobs = []
    for index in range(number):
        gathers = index % 100 == 99
        needs = range(index - 99, index) if gathers else [index - 1] if index % CHAIN else []
        wants = {"gpus": int(not gathers), "minutes": 10, "memory_mb": 1000}
        does = {"name": f"job-{index}", "command": ["echo", str(index)], "needs": [f"job-{n}" for n in needs]}
        jobs.append({**does, **wants})
    return {"name": f"scale-{number}", "jobs": jobs}


def timed(words: list[str], runs: Path) -> tuple[float, float, str]:
    """Seconds, processor seconds and output of a command on a store."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "DISTILL_RUNS": str(runs)}, capture_output=True, text=True
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UsageError(f"{' '.join(words[:6])} ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(wall, 2), round(spent, 2), done.stdout


def cluster(action: str, source: Path, *words: str) -> list[str]:
    """The command's words."""
    return [sys.executable, "-m", "distill_lib", "cluster", action, str(source), *words]


def on_slurm(folder: Path, number: int) -> dict[str, Any]:
    """Submit, submit again, status, cancel; the jobs wait for an hour that does not come."""
    source, runs, held = folder / f"{number}.json", folder / "runs", "--extra=--begin=now+1hour"
    names: dict[str, Any] = {}
    try:
        names["submit_s"], names["submit_cpu_s"], said = timed(cluster("submit", source, held), runs)
        assert f"submitted {number} jobs" in said, said
        count = _sbatches(folder)
        names["submit_again_s"], _, said = timed(cluster("submit", source, held), runs)
        assert "submitted 0 jobs" in said, said
        names["sbatch_calls"], names["sbatch_calls_again"] = count, _sbatches(folder) - count
        names["status_s"], _, _ = timed(cluster("status", source), runs)
    finally:
        names["cancel_s"], _, _ = timed(cluster("cancel", source), runs)
    return names


def _sbatches(folder: Path) -> int:
    """How often sbatch was called: it is counted on its way."""
    calls = folder / "calls"
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def count_sbatch(folder: Path) -> None:
    """Put an sbatch before the real one that notes each call."""
    (folder / "bin").mkdir()
    counting = folder / "bin" / "sbatch"
    counting.write_text(f'#!/bin/sh\necho >>{folder}/calls\nexec {shutil.which("sbatch")} "$@"\n')
    counting.chmod(0o755)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"


def on_snakemake(program: str, folder: Path, number: int) -> dict[str, Any]:
    """Ask what it would run."""
    words = [program, "--dry-run", "--quiet", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    words += ["--cores", "16", "--resources", "gpu=4", "--rerun-triggers", "mtime"]
    words += ["--config", f"profile={folder / f'{number}.json'}", f"python={sys.executable}"]
    wall, spent, _ = timed(words, folder / "runs")
    return {"snakemake_s": wall, "snakemake_cpu_s": spent}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--jobs", default="1000", help="of the table that is submitted")
    add("--many", default="10000", help="of the table that is listed")
    add("--snakemake", default=shutil.which("snakemake"), help="the program, where it is not on the PATH")
    add("--out", type=Path, default=ROOT / "results" / "cluster" / "scale.json")
    args = parser.parse_args()
    number, many = (whole_number(f"--{name}", getattr(args, name), 1) for name in ("jobs", "many"))
    slurm.require()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (number, many):
            (folder / f"{size}.json").write_text(json.dumps(table(size)))
        count_sbatch(folder)
        found = on_slurm(folder, number)
        dry_run = cluster("submit", folder / f"{many}.json", "--dry-run")
        found["dry_run_s"], found["dry_run_cpu_s"], _ = timed(dry_run, folder / "runs")
        if args.snakemake:
            found |= on_snakemake(args.snakemake, folder, number)
    version = slurm.call("sbatch", "--version").strip()
    about = {"jobs": number, "jobs_dry_run": many, "slurm": version, "hardware": manifest.hardware(), "bars": BARS}
    store.write_json(args.out, {**about, "figures": found})
    missed = [bar for bar, most in BARS.items() if found.get(bar, 0) > most]
    for figure, value in found.items():
        print(f"{figure:20s} {value:8g}" + (f"   at most {BARS[figure]}" if figure in BARS else ""))
    return 1 if missed or found["sbatch_calls_again"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
