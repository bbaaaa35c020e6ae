"""`python -m distill_lib COMMAND`: one thin command line over the study and its tools."""

import argparse
import importlib
import sys
from typing import NoReturn

from distill_lib.errors import UsageError

# Command -> what it does, and the module that has `add_arguments(parser)` and `main(args) -> exit code`.
COMMANDS = {
    "run": ("run the study's notebooks", "distill_lib.study.command"),
    "job": ("run one job of the table, as an engine does", "distill_lib.study.table.command"),
    "collect": ("file the rows of what a profile's jobs have made so far", "distill_lib.study.table.collect"),
    "stamps": ("write the job table as JSON, and a stamp for each job that is done", "distill_lib.study.table.stamps"),
    "inspect": ("tell whether an encoder has a backdoor", "distill_lib.tools.inspect.command"),
    "bench": ("time the study's steps on this machine", "distill_lib.tools.bench.command"),
    "purify": ("clean an encoder of your own", "distill_lib.tools.purify.command"),
    "cluster": ("run a profile's jobs on Slurm", "distill_lib.tools.cluster.command"),
    "report": ("put a profile's figures, verdicts and notebooks on one page", "distill_lib.tools.report.command"),
}


class Parser(argparse.ArgumentParser):
    """Answers a wrong option in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (--help explains the options)\n")


def main(argv: list[str] | None = None) -> int:
    """Run a command; gives the exit code: 2, after one sentence, for what the user got wrong.

    A run is followed by its report here: the study lies a floor below the tools, and knows nothing of them.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(prog="python -m distill_lib", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, module) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if argv[:1] == [name]:  # only the command's own module is imported
            importlib.import_module(module).add_arguments(command)
    args = parser.parse_args(argv)
    try:
        code = importlib.import_module(COMMANDS[args.command][1]).main(args)
        if args.command == "run" and code in (0, 1) and not (args.list or args.dry_run):
            importlib.import_module(COMMANDS["report"][1]).after_run(args)
        return code
    except UsageError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
