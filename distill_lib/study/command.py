"""`python -m distill_lib run`: the study's main job, which `run_all.sh` starts."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from distill_lib.errors import UsageError
from distill_lib.study import manifest, runner
from distill_lib.study.display import duration
from distill_lib.study.jobs import Job, ProfileLike, expand, parse_seeds, parse_workers
from distill_lib.study.store import runs_folder

ROOT = Path(__file__).resolve().parents[2]


class Study(Protocol):
    """What the command needs of the study: `distill_lib.study.main_job` has these functions."""

    def names(self) -> list[str]:
        """The profiles' names."""

    def load(self, name: str) -> ProfileLike:
        """A profile; a UsageError for a name that is none."""

    def check(self, profile: ProfileLike, device: str | None, data_dir: Path | None) -> None:
        """A UsageError where the profile cannot run here: no such device, no data."""

    def fingerprint(self, profile: ProfileLike, job: Job, data_dir: Path | None) -> Any:
        """As a JSON value, all that can change a job's result besides its notebook and parameters."""

    def about(self, profile: ProfileLike, device: str | None, data_dir: Path | None) -> dict[str, Any]:
        """For the manifest: `configuration` and `data`."""

    def headline(self, profile: ProfileLike, root: Path) -> str:
        """What a run ends with: the headline table, and where the figures are."""


def study() -> Study:
    """The study; imported late, so that wrong options are answered at once."""
    from distill_lib.study import main_job

    return main_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--profile", metavar="NAME", help="quick (default: built-in images, CPU), laptop, gpu or paper")
    add("--seeds", metavar="SEEDS", help="replace the profile's seeds: 3, 0-5 or 0,2,4")
    add(
        "--only",
        metavar="NOTEBOOKS",
        nargs="+",
        help="these notebooks (01_attack,04_loss) and what they need",
    )
    add("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; the profile's own by default")
    add("--workers", metavar="N", help="cells computed at once; one a core by default (at most 4), one on a GPU")
    add("--data-dir", metavar="FOLDER", help="folder of the image archives and downloads")
    add("--list", action="store_true", help="list the jobs (of all profiles, or of --profile) and stop")
    add("--dry-run", action="store_true", help="say which jobs would run and which are done, and stop")


def main(args: argparse.Namespace, root: Path = ROOT) -> int:
    """Run, list or plan the jobs; gives the exit code: 0, or 1 where a notebook failed."""
    seeds = None if args.seeds is None else parse_seeds(args.seeds)
    stems = [stem for option in args.only or () for stem in option.split(",")]
    only = None if args.only is None else [Path(stem).name.removesuffix(".ipynb") for stem in stems]
    data_dir, the = data_folder(args.data_dir), study()
    if args.list:
        for name in [args.profile] if args.profile else the.names():
            print(f"{name}:", *map(_described, expand(the.load(name), seeds, only, args.device)), sep="\n  ")
        return 0
    profile = the.load(args.profile or "quick")
    jobs = expand(profile, seeds, only, args.device)
    if args.device not in (None, "auto", "cpu"):
        from distill_lib.training.device import resolve_device  # torch takes seconds to import

        resolve_device(args.device)
    the.check(profile, args.device, data_dir)
    env = {"DISTILL_DATA": data_dir, "DISTILL_WORKERS": args.workers and parse_workers(args.workers)}
    env = {name: str(value) for name, value in env.items() if value is not None}
    place = runner.Place(root, runs_folder(root), lambda job: the.fingerprint(profile, job, data_dir), env)
    if args.dry_run:
        for planned in runner.plan(jobs, place):
            print(f"{'unchanged' if planned.record else 'would run'}: {_described(planned.job)}")
        return 0
    code = _run(jobs, place, profile.name, lambda: the.about(profile, args.device, data_dir))
    if code == 0:
        print(the.headline(profile, root))
    return code


def _run(jobs: list[Job], place: runner.Place, profile: str, about: Callable[[], dict[str, Any]]) -> int:
    """Run the jobs, each into the manifest as it ends; 0, or 1 where one failed."""

    def ended(outcome: runner.Outcome) -> None:
        if outcome.status == "done":
            manifest.keep(place.root, place.runs, profile, about(), [outcome.record])

    end_on_sigterm()
    bad = [each for each in runner.run(jobs, place, ended=ended) if each.status in ("failed", "skipped")]
    for outcome in bad:
        print(f"{outcome.job.name}: {outcome.message}", file=sys.stderr)
    return int(bool(bad))


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: through its `finally` clauses."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _described(job: Job) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in job.parameters.items() if name != "profile")
    cost = [f"about {duration(60 * job.minutes)}"] if job.minutes else []
    return ", ".join([f"{job.name} ({values})", *cost, *(["GPU"] if job.gpus else [])])


def data_folder(text: str | None) -> Path | None:
    """The folder of image archives that an option names.

    Raises:
        UsageError: If it is none.
    """
    if text is not None and not Path(text).is_dir():
        raise UsageError(f"--data-dir {text!r} is not a folder; allowed: one that holds the image archives")
    return None if text is None else Path(text).resolve()
