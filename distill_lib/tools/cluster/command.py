"""`python -m distill_lib cluster`: the jobs of a profile on Slurm."""

import argparse
import shlex
from collections.abc import Callable

from distill_lib.errors import UsageError, choose
from distill_lib.study.command import data_folder
from distill_lib.study.jobs import parse_seeds
from distill_lib.study.table.command import add_options
from distill_lib.study.table.load import load_table
from distill_lib.study.table.table import Table
from distill_lib.tools.cluster import slurm
from distill_lib.tools.cluster.submit import Options, alone, arguments, check_wants, job_name, parse_extra, plan
from distill_lib.tools.cluster.submit import submit as submit_table
from distill_lib.tools.cluster.wants import cost, counted, described


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("action", metavar="ACTION", help="; ".join(f"{name}: {does}" for name, (does, _) in ACTIONS.items()))
    add_options(parser, "PROFILE")
    add("--dry-run", action="store_true", help="submit: say which jobs would be submitted, and stop")
    add("--partition", metavar="NAME", help="Slurm's partition; its default one by default")
    add("--account", metavar="NAME", help="Slurm's account; yours by default")
    add("--time-scale", metavar="X", default="1", help="multiply the jobs' time limits: 2 for nodes half as fast")
    add("--extra", metavar="WORDS", action="append", default=[], help="more for sbatch: --extra=--qos=long")


def main(args: argparse.Namespace) -> int:
    """Do it; gives the exit code: 0, or 1 where `status` knows of a failed job or `doctor` found something wrong."""
    _, action = choose("action", args.action, ACTIONS)
    if args.dry_run and args.action != "submit":
        raise UsageError(f"--dry-run with {args.action!r} means nothing; allowed: with submit")
    options = Options(args.partition, args.account, parse_extra(args.extra))
    seeds = None if args.seeds is None else parse_seeds(args.seeds)
    scale = _scale(args.time_scale)
    if not args.dry_run:
        slurm.require()  # sooner than a profile is read, which takes seconds; likewise whether Slurm answers
        slurm.partitions()
    table = load_table(args.source, seeds, args.device, data_folder(args.data_dir), scale)
    return action(table, options, args)


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--time-scale {text!r} is no number; allowed: one above 0, such as 1.5") from None


def _submit(table: Table, options: Options, args: argparse.Namespace) -> int:
    if args.dry_run:
        return _dry_run(table, options)
    found = submit_table(table, options, _say)
    _say(f"submitted {counted(len(found.todo))} of {table.name} ({found})")
    if found.todo:
        _say(cost(found.todo))
        _say(f"how they do: {_again('status', args)}")
    return 0


def _dry_run(table: Table, options: Options) -> int:
    absent = slurm.missing()
    if absent:
        _say(f"no {absent!r} on the PATH: all that the store lacks is listed, as if the queue were empty")
    found = plan(table, {} if absent else slurm.queue(table.runs))
    kinds = [] if absent else slurm.chosen(options.partition)
    if kinds:
        check_wants(found.todo, kinds, options.extra)
    lines = [f"would submit: {described(job)}" for job in found.todo]
    lines.append(f"{counted(len(found.todo))} of {table.name} to submit ({found})")
    if found.todo:
        lines.append(cost(found.todo))
        lines.append(f"the first: sbatch {shlex.join(arguments(table, found.todo[0], options, kinds=kinds))}")
    _say("\n".join(lines))
    return 0


def _status(table: Table, options: Options, args: argparse.Namespace) -> int:
    from distill_lib.tools.cluster.status import lines, states

    found = states(table)
    _say("\n".join(lines(table, found)))
    if any(each.state in ("failed", "missing") for each in found):
        _say(f"what is missing, and what failed once more: {_again('submit', args)}")
    return 1 if any(each.state == "failed" for each in found) else 0


def _cancel(table: Table, options: Options, args: argparse.Namespace) -> int:
    with alone(table.runs, _say):
        queue = slurm.queue(table.runs)
        mine = [queue[name] for job in table.jobs if (name := job_name(table, job)) in queue]
        live = [queued.id for queued in mine if queued.live]
        slurm.scancel(live)
    _say(f"cancelled {counted(len(live))} of {table.name}; what they finished stays: {_again('submit', args)} goes on")
    return 0


def _doctor(table: Table, options: Options, args: argparse.Namespace) -> int:
    from distill_lib.tools.cluster.doctor import examine

    findings = list(examine(table, options, _say))
    return 0 if all(finding.fine for finding in findings) else 1


def _again(action: str, args: argparse.Namespace) -> str:
    """The command for another action on the same table."""
    given = {"--seeds": args.seeds, "--device": args.device, "--data-dir": args.data_dir}
    words = [word for name, value in given.items() if value is not None for word in (name, value)]
    return shlex.join(["python", "-m", "distill_lib", "cluster", action, args.source, *words])


def _say(text: str) -> None:
    print(text, flush=True)


# Action -> what it does, and how.
ACTIONS: dict[str, tuple[str, Callable[[Table, Options, argparse.Namespace], int]]] = {
    "submit": ("one sbatch for each job that the store lacks", _submit),
    "status": ("what has become of them", _status),
    "cancel": ("take this table's jobs out of the queue", _cancel),
    "doctor": ("try partition, store, locks, GPU and torch in a job of a minute", _doctor),
}
