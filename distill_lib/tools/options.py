"""What the commands over an encoder of one's own share: the options that say what it is, and the progress shown."""

import argparse
import math
import re
import time
from typing import Any

from distill_lib.errors import UsageError, whole_number


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Declare what weights alone do not tell: network, size of images, normalisation."""
    add = parser.add_argument
    add("--arch", metavar="NAME", help="resnet18 to 152 (_cifar), vit_b_16, vit:<heads>, timm:<name>, study_stem2")
    add("--size", metavar="PIXELS", help="side of the images that the encoder was trained on")
    add("--mean", metavar="R,G,B", help="its normalisation: three numbers, or imagenet, cifar10, none")
    add("--std", metavar="R,G,B", help="likewise")


def kind_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the options of `add_kind` say: `arch`, `size`, `mean`, `std`.

    Raises:
        UsageError: If one is impossible.
    """
    size = None if args.size is None else whole_number("--size", args.size, 1)
    from distill_lib.tools.purify.subject import NORMALISATIONS  # torch takes seconds to import

    named = [{name: pair[place] for name, pair in NORMALISATIONS.items()} for place in (0, 1)]
    mean, std = _triple("--mean", args.mean, named[0]), _triple("--std", args.std, named[1])
    return {"arch": args.arch, "size": size, "mean": mean, "std": std}


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
