"""`python -m distill_lib purify ENCODER --images FOLDER --out FILE`: clean an encoder of your own."""

import argparse
from pathlib import Path

from distill_lib.errors import UsageError, whole_number
from distill_lib.tools.options import Live, add_kind, kind_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("encoder", metavar="ENCODER", help="the suspicious weights: .safetensors, .pt, .pth, .bin or .ckpt")
    add("--images", metavar="FOLDER", required=True, help="clean images, 16 or more, png or jpg, without labels")
    add("--out", metavar="FILE", required=True, help="where the repaired weights go: a name that ends in .safetensors")
    add_kind(parser)
    recipes = "recipe (the published one; default), finetune, fitnet, nad, bn_reset, clp, or teacher/student/loss"
    add("--recipe", metavar="NAME", default="recipe", help=recipes)
    add("--views", metavar="N", help="augmented images that the repair may use, in all (32000)")
    add("--steps", metavar="N", help="optimiser steps in all, in place of --views")
    add("--seed", metavar="N", default="0", help="of everything that is drawn (0)")
    add("--device", metavar="DEVICE", default="auto", help="auto (default), cpu, cuda or cuda:N")


def main(args: argparse.Namespace) -> int:
    """Repair an encoder; gives the exit code."""
    if args.views is not None and args.steps is not None:
        raise UsageError("--views and --steps exclude each other; allowed: one of them")
    numbers = {
        name: whole_number(f"--{name}", text, least)
        for name, text, least in (
            ("views", args.views, 1),
            ("steps", args.steps, 1),
            ("seed", args.seed, 0),
        )
        if text is not None
    }
    from distill_lib.tools.purify.purify import Settings, purify  # torch takes seconds to import
    from distill_lib.tools.purify.report import card_path, report_folder, summary

    settings = Settings(**kind_of(args), recipe=args.recipe, device=args.device, **numbers)
    live = Live()
    report = purify(args.encoder, args.images, args.out, settings, live.display.line, live.watch)
    live.display.line(summary(report))
    out = Path(args.out)
    live.display.line(f"written: {out}, {card_path(out)}, {report_folder(out) / 'index.html'}")
    return 0
