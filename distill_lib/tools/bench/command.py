"""`python -m distill_lib bench`: how fast the study's steps are on this machine, and whether speed costs accuracy."""

import argparse
import math
import sys
from pathlib import Path

from distill_lib.errors import UsageError, whole_number

ROOT = Path(__file__).resolve().parents[3]
SECONDS, PAIRS, SEEDS = 40.0, 7, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--device", metavar="DEVICE", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add("--out", metavar="FOLDER", help="where results/bench and figures/bench go; the repository by default")
    add("--seconds", metavar="S", default=str(SECONDS), help=f"for each measurement ({SECONDS:g})")
    add("--pairs", metavar="N", default=str(PAIRS), help=f"how often each measurement compares its two sides ({PAIRS})")
    add(
        "--precision-study",
        action="store_true",
        help="train the same encoders in float32 and bf16 and compare their accuracy, instead of timing",
    )
    add("--seeds", metavar="N", help=f"of the precision study ({SEEDS})")


def main(args: argparse.Namespace) -> int:
    """Time everything, or run the precision study; gives the exit code, 1 where the two sides' losses differ."""
    seconds = _positive("--seconds", args.seconds)
    pairs = whole_number("--pairs", args.pairs, 1)
    if args.seeds is not None and not args.precision_study:
        raise UsageError(f"--seeds {args.seeds!r} belongs to --precision-study; allowed: only together with it")
    seeds = whole_number("--seeds", args.seeds or str(SEEDS), 2)
    out = _folder(args.out)
    from distill_lib.training.device import resolve_device  # torch takes seconds to import

    device = resolve_device(args.device)
    return _precision(device, out, seeds) if args.precision_study else _bench(device, out, seconds, pairs)


def _bench(device, out: Path, seconds: float, pairs: int) -> int:
    from distill_lib.plots import make, numbers_bench
    from distill_lib.study.store import write_json, writing
    from distill_lib.tools.bench import agreement
    from distill_lib.tools.bench.pairs import Budget
    from distill_lib.tools.bench.report import report
    from distill_lib.tools.bench.setup import SETUPS
    from distill_lib.training.device import resolve_precision

    setup = SETUPS[device.type](device, resolve_precision("auto", device))
    try:
        checked = agreement.check(setup)
    except agreement.Disagreement as error:
        print(error, file=sys.stderr)
        return 1
    _say(f"papers' loops and library agree on {len(checked)} loss terms of one batch in float32")
    result = report(setup, Budget(seconds, pairs), _say)
    path = out / "results" / "bench" / f"{device.type}.json"
    figures = out / "figures" / "bench"
    with writing(path.parent):
        write_json(path, result)
    with writing(figures):
        make("bench", numbers_bench(result), figures, device.type)
    _say(f"written: {path} and {figures / device.type}.png")
    return 0


def _precision(device, out: Path, seeds: int) -> int:
    from distill_lib.tools.bench.precision import study

    study(device, out / "results" / "bench", ROOT / "runs", seeds, _say)
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _positive(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{option} {text!r} is impossible; allowed: a number of seconds above 0")
    return value


def _folder(text: str | None) -> Path:
    if text is not None and not Path(text).is_dir():
        raise UsageError(f"--out {text!r} is not a folder; allowed: one that exists")
    return ROOT if text is None else Path(text).resolve()
