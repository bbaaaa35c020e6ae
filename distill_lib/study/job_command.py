"""`python -m distill_lib job SOURCE NAME`: one job of a table, in the foreground; what every engine runs."""

import argparse
from pathlib import Path

from distill_lib.errors import UsageError
from distill_lib.study.command import end_on_sigterm
from distill_lib.study.jobs import parse_seeds
from distill_lib.study.table import load_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a profile (quick, laptop, gpu, paper), a .toml profile or a .json table")
    add("name", metavar="NAME", help="the job")
    add("--seeds", metavar="SEEDS", help="as the table was made with: 3, 0-5 or 0,2,4")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; the profile's own by default")
    add("--data-dir", metavar="FOLDER", help="folder of the image archives and downloads")


def main(args: argparse.Namespace) -> int:
    """Run the job unless it is finished; 0, or 1 where it failed.

    SIGTERM ends it with 143: the store keeps its checkpoints, so that the same command goes on.
    """
    end_on_sigterm()
    seeds = None if args.seeds is None else parse_seeds(args.seeds)
    table = load_table(args.source, seeds, args.device, folder(args.data_dir))
    return table.run(table.job(args.name))


def folder(text: str | None) -> Path | None:
    """The folder of archives.

    Raises:
        UsageError: If it is none.
    """
    if text is not None and not Path(text).is_dir():
        raise UsageError(f"--data-dir {text!r} is not a folder; allowed: one that holds the image archives")
    return None if text is None else Path(text).resolve()
