"""`python -m distill_lib inspect ENCODER --images FOLDER`: is this encoder suspicious?"""

import argparse
import math
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, whole_number
from distill_lib.tools.options import Live, add_kind, kind_of

MOST = 10**9 - 1  # steps, seeds: more are a slip of the finger


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("encoder", metavar="ENCODER", help="the weights: .safetensors, .pt, .pth, .bin or .ckpt")
    add("--images", metavar="FOLDER", required=True, help="clean images, 16 or more, png or jpg, without labels")
    add_kind(parser)
    add("--clean-scores", metavar="FILE", help="scores of clean encoders of the same size, as --as-clean writes them")
    add("--rate", metavar="SHARE", default="0.05", help="of clean encoders that may be called suspicious (0.05)")
    add("--as-clean", metavar="FILE", help="the encoder is known to be clean: add its score to this file")
    add("--suspect", metavar="OLD", help="the attacked encoder that this one was cured from: audit the cure")
    add("--clean", metavar="ENCODER", help="an encoder known to be clean, audited beside")
    add("--steps", metavar="N", help="of each search (120)")
    add("--out", metavar="FILE", help="where the report goes, trigger included, as JSON")
    add("--seed", metavar="N", default="0", help="of everything that is drawn (0)")
    add("--device", metavar="DEVICE", default="auto", help="auto (default), cpu, cuda or cuda:N")


def main(args: argparse.Namespace) -> int:
    """Inspect an encoder; gives the exit code, 0 whatever was found."""
    numbers = {"seed": whole_number("--seed", args.seed, 0, MOST)}
    steps = {} if args.steps is None else {"steps": whole_number("--steps", args.steps, 1, MOST)}
    rate = _share("--rate", args.rate)
    for option, text in (("--out", args.out), ("--as-clean", args.as_clean)):
        if text is not None and not Path(text).resolve().parent.is_dir():
            raise UsageError(f"{option} {text!r} lies in no folder; allowed: a file in one that exists")
    from distill_lib.defences.inversion import InversionConfig  # torch takes seconds to import
    from distill_lib.tools.inspect.inspect import Settings, inspect, verdict
    from distill_lib.tools.inspect.suspect import Kind

    paths = {name: Path(text) for name in ("clean_scores", "suspect", "clean") if (text := getattr(args, name))}
    settings = Settings(
        Kind(**kind_of(args)), rate=rate, inversion=InversionConfig(**steps), device=args.device, **paths, **numbers
    )
    live = Live()
    report = inspect(args.encoder, args.images, settings, live.watch)
    live.display.line(verdict(report))
    if args.as_clean:
        live.display.line(_kept(report, Path(args.as_clean)))
    if args.out:
        _write(report, Path(args.out))
        live.display.line(f"written: {args.out}")
    return 0


def _kept(report: Any, path: Path) -> str:
    """Add a score to a file of clean scores; a line that says so."""
    from dataclasses import replace

    from distill_lib.tools.inspect.inspect import clean_scores_of
    from distill_lib.tools.inspect.reference import read_scores

    scores = clean_scores_of([report])
    if path.exists():
        earlier = read_scores(path)
        earlier.check_fits(report.settings, report.parameters)
        scores = replace(earlier, scores=(*earlier.scores, *scores.scores))
    scores.write(path)
    return f"{path} holds {len(scores.scores)} clean scores"


def _write(report: Any, path: Path) -> None:
    from distill_lib.study.store import write_json, writing

    with writing(path.parent):
        write_json(path, report.content())


def _share(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise UsageError(f"{option} {text!r} is impossible; allowed: a share above 0 and below 1")
    return value
