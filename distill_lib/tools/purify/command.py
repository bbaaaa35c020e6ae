"""`python -m distill_lib purify ENCODER --images FOLDER --out FILE`: clean an encoder of your own."""

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("encoder", metavar="ENCODER", help="the suspicious weights: .safetensors, .pt, .pth, .bin or .ckpt")
    add("--images", metavar="FOLDER", required=True, help="clean images, 16 or more, png or jpg, without labels")
    add("--out", metavar="FILE", required=True, help="where the repaired weights go: a name that ends in .safetensors")
    add("--arch", metavar="NAME", help="resnet18 to 152 (_cifar), vit_b_16, vit:<heads>, timm:<name>, study_stem2")
    add("--size", metavar="PIXELS", help="side of the images that the encoder was trained on")
    add("--mean", metavar="R,G,B", help="its normalisation: three numbers, or imagenet, cifar10, none")
    add("--std", metavar="R,G,B", help="likewise")
    recipes = "recipe (a fine-tuned teacher is distilled; default), finetune, nad, bn_reset, clp, teacher/student/loss"
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
            ("size", args.size, 1),
            ("views", args.views, 1),
            ("steps", args.steps, 1),
            ("seed", args.seed, 0),
        )
        if text is not None
    }
    from distill_lib.tools.purify.purify import Settings, purify  # torch takes seconds to import
    from distill_lib.tools.purify.report import card_path, report_folder, summary
    from distill_lib.tools.purify.subject import NORMALISATIONS

    named = [{name: pair[place] for name, pair in NORMALISATIONS.items()} for place in (0, 1)]
    triples = (_triple("--mean", args.mean, named[0]), _triple("--std", args.std, named[1]))
    settings = Settings(args.arch, mean=triples[0], std=triples[1], recipe=args.recipe, device=args.device, **numbers)
    live = Live()
    report = purify(args.encoder, args.images, args.out, settings, live.display.line, live.watch)
    live.display.line(summary(report))
    out = Path(args.out)
    live.display.line(f"written: {out}, {card_path(out)}, {report_folder(out) / 'index.html'}")
    return 0


class Live:
    """Shows how far each stage is, and its time left, as `run_all.sh` does."""

    def __init__(self) -> None:
        from distill_lib.study.display import Display

        self.display = Display()

    def watch(self, stage: str) -> Any:
        """The watch of a stage that begins now."""
        from distill_lib.study.display import progress_text
        from distill_lib.training.loop import Watch

        started = time.time()

        def report(step: int, steps: int, terms: dict[str, float]) -> None:
            shown = {"loss": sum(v for k, v in terms.items() if k != "epoch") if terms else None}
            state = {"stage": stage, "step": step, "steps": steps, "first": 0, "started": started, **shown}
            self.display.live(progress_text([{**state, "epoch": terms.get("epoch"), "updated": time.time()}]))

        return Watch(report)


def _triple(option: str, text: str | None, named: dict[str, tuple[float, float, float]]) -> Any:
    """Three numbers, one a channel, or those of a name."""
    if text is None or text in named:
        return named.get(text or "")
    try:
        values = tuple(float(part) for part in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise UsageError(f"{option} {text!r} is impossible; allowed: three numbers such as 0.5,0.5,0.5, "
                         f"or {', '.join(named)}")  # fmt: skip
    return values
