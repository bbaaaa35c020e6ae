"""`python -m distill_lib job SOURCE NAME`: one job of a table, in the foreground; what every engine runs."""

import argparse
from pathlib import Path

from distill_lib.study.command import data_folder, end_on_sigterm
from distill_lib.study.jobs import parse_seeds
from distill_lib.study.table.load import load_table
from distill_lib.study.table.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser)
    parser.add_argument("name", metavar="NAME", help="the job")


def add_options(parser: argparse.ArgumentParser, metavar: str = "SOURCE") -> None:
    """Declare what says which table is meant."""
    add = parser.add_argument
    add("source", metavar=metavar, help="a profile (quick, laptop, gpu, paper), a .toml profile or a .json table")
    add("--seeds", metavar="SEEDS", help="in place of the profile's: 3, 0-5 or 0,2,4")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; the profile's own by default")
    add("--data-dir", metavar="FOLDER", help="folder of the image archives and downloads")


def table_of(args: argparse.Namespace) -> Table:
    """The table that these options mean.

    Raises:
        UsageError: As `load_table`.
    """
    seeds, folder = seeds_and_folder(args)
    return load_table(args.source, seeds, args.device, folder)


def seeds_and_folder(args: argparse.Namespace) -> tuple[list[int] | None, Path | None]:
    """What `--seeds` and `--data-dir` say."""
    return None if args.seeds is None else parse_seeds(args.seeds), data_folder(args.data_dir)


def main(args: argparse.Namespace) -> int:
    """Run the job unless it is finished; 0, or 1 where it failed.

    SIGTERM ends it with 143: the store keeps its checkpoints, so that the same command goes on.
    """
    end_on_sigterm()
    table = table_of(args)
    return table.run(table.job(args.name))
