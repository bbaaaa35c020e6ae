"""Whether every engine makes the same tables, byte for byte: results/cluster/same.json.

    python scripts/same_tables.py tests/profiles/tiny.toml [--engines plain slurm snakemake] [--snakemake PROGRAM]

Runs a profile three times from nothing, each in a copy of the repository with a store of its own: by the command behind
run_all.sh, by `cluster submit` on the Slurm at hand (tests/slurm/up.sh brings one up), and by Snakemake. The exit code
is 1 where a table differs or something was made twice.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, choose
from distill_lib.study import manifest, store
from distill_lib.tools.cluster import slurm

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("distill_lib", "notebooks", "Snakefile")


class Copy:
    """A copy of the repository in a folder, with a profile."""

    def __init__(self, folder: Path, profile: Path, snakemake: str) -> None:
        self.folder, self.profile, self.snakemake = folder, folder / profile.name, snakemake
        folder.mkdir()
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        shutil.copy(profile, self.profile)

    @property
    def runs(self) -> Path:
        """The store."""
        return self.folder / "runs"

    def run(self, *words: str) -> None:
        """Run a command to its end, on one thread: of several, sums differ by rounding."""
        given = {"DISTILL_RUNS": str(self.runs), "PYTHONPATH": str(self.folder)}
        one = {"OMP_NUM_THREADS": "1", "DISTILL_WORKERS": "1"}
        done = subprocess.run(words, cwd=self.folder, env={**os.environ, **given, **one}, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise UsageError(f"{' '.join(words)} ended with code {done.returncode}")

    def study(self, *words: str) -> None:
        """Run a command of the study."""
        self.run(sys.executable, "-m", "distill_lib", *words)


def plain(copy: Copy) -> None:
    """What run_all.sh runs."""
    copy.study("run", "--profile", str(copy.profile))


def on_slurm(copy: Copy) -> None:
    """Submit, and wait until the queue is empty."""
    copy.study("cluster", "submit", str(copy.profile))
    while any(queued.comment == f"{slurm.STORE}{copy.runs}" for queued in slurm.queue(copy.runs).values()):
        time.sleep(2)
    copy.study("cluster", "status", str(copy.profile))


def on_snakemake(copy: Copy) -> None:
    """As the Snakefile says."""
    words = [copy.snakemake, "--quiet", "--cores", "8", "--rerun-triggers", "mtime", "--config"]
    copy.run(*words, f"profile={copy.profile}", f"python={sys.executable}")


ENGINES = {"plain": plain, "slurm": on_slurm, "snakemake": on_snakemake}


def found(copy: Copy) -> dict[str, Any]:
    """The tables' hashes, how many things the store was made to hold, and which of them more than once."""
    paths = sorted((copy.folder / "results").glob("*/*.csv"))
    lines = (copy.runs / "makes.log").read_text().splitlines()
    made = Counter(" ".join(line.split()[1:3]) for line in lines)
    return {
        "tables": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        "made": len(made),
        "made_twice": sorted(name for name, count in made.items() if count > 1),
    }


def same(engines: dict[str, dict[str, Any]]) -> bool:
    """Whether all have the same tables, at least one, and made nothing twice."""
    first = next(iter(engines.values()))["tables"]
    return bool(first) and all(each["tables"] == first and not each["made_twice"] for each in engines.values())


def main(argv: list[str] | None = None) -> int:
    """Run, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES))
    parser.add_argument("--snakemake", default="snakemake", help="the program, where it is not on the PATH")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "cluster" / "same.json")
    args = parser.parse_args(argv)
    engines: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for engine in args.engines:
            run, copy = choose("engine", engine, ENGINES), Copy(Path(name) / engine, args.profile, args.snakemake)
            began = time.monotonic()
            run(copy)
            engines[engine] = {**found(copy), "wall_s": round(time.monotonic() - began, 1)}
            print(f"{engine}: {engines[engine]}", flush=True)
    about = {"profile": args.profile.stem, "hardware": manifest.hardware(), "versions": manifest.versions()}
    store.write_json(args.out, {**about, "engines": engines, "same": same(engines)})
    print("the same tables" if same(engines) else "NOT the same tables, or something was made twice")
    return 0 if same(engines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
