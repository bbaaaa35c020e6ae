"""`python -m distill_lib report`: a profile's figures, verdicts and executed notebooks on one page."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    words = "quick (default), laptop, gpu, paper, or a .toml file"
    parser.add_argument("profile", metavar="PROFILE", nargs="?", default="quick", help=words)


def main(args: argparse.Namespace) -> int:
    """Write the page and say where it is; gives the exit code."""
    return report(args.profile, ROOT)


def report(profile: str, root: Path) -> int:
    """Write a profile's page.

    Raises:
        UsageError: If there is no such profile, or the page cannot be written.
    """
    from distill_lib.study import main_job  # torch takes seconds to import
    from distill_lib.study.store import runs_folder, writing
    from distill_lib.tools.report.page import build

    job = main_job.load(profile)
    with writing(root / "figures" / job.name):
        page = build(root, job, runs_folder(root))
    print(f"report: {page.relative_to(root)}", flush=True)
    return 0


def after_run(args: argparse.Namespace) -> None:
    """Write the page of the profile that a run was about; a page that fails is one sentence, and the run stands.

    Args:
        args: Of the command `run`.
    """
    profile = args.profile or "quick"
    try:
        report(profile, ROOT)
    except Exception as error:  # whatever it is: what the run made is there, and its exit code is the answer
        why = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"the report was not built ({why}); what the run made is complete, and `python -m distill_lib report "
            f"{profile}` tries again",
            file=sys.stderr,
        )
