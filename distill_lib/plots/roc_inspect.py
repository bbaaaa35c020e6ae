"""Trigger inversion as a detector: the size of every encoder's smallest trigger, and the ROC."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.evaluation.detection import roc
from distill_lib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    empty,
    footer,
    name,
    new_figure,
    styled,
)

MARKS = ((VERMILION, "^"), (ORANGE, "v"), (PURPLE, "D"), (SKY, "s"), (GREY, "P"))
GROUPS = {"clean": (BLUE, "o"), "purified": (GREEN, "s"), "control": (GREY, "X")}
LINES = {"all": (VERMILION, "-"), "held-out trigger": (PURPLE, "--"), "held-out attack": (SKY, ":")}


def numbers_roc_inspect(rows: pd.DataFrame, summary: pd.DataFrame) -> dict:
    """Scores by kind of encoder, and a curve for each line of the summary that is drawn.

    Args:
        rows: inspect.csv.
        summary: inspect_summary.csv: `attacked`, `auc`, `low`, `high`, `threshold` and the counts.
    """
    rows = rows.fillna({"attack": "", "trigger": "", "defence": "none"})
    rows = rows[rows["group"] != "reference"]
    parts = rows.assign(kind=[_kind(row) for row in rows.to_dict("records")]).groupby(["group", "kind"], sort=False)
    kinds = [
        {"kind": kind, "group": group, "sizes": sorted(part["size"].astype(float).tolist())}
        for (group, kind), part in parts
    ]
    curves = [
        {
            **{key: each[key] for key in ("attacked", "auc", "low", "high", "n_clean", "n_attacked")},
            **_curve(rows, each),
        }
        for each in summary.to_dict("records")
        if each["attacked"] in LINES
    ]
    first = summary.to_dict("records")[0] if len(summary) else {}
    keys = ("threshold", "n_reference", "flagged_clean", "n_clean", "false_positive_rate", "fpr_low", "fpr_high")
    return {"kinds": kinds, "curves": curves, **{key: first.get(key) for key in keys}}


def _kind(row: dict) -> str:
    if row["group"] in ("clean", "control"):
        return name(row["defence"]) if row["group"] == "control" else "clean"
    attack = name(row["attack"])
    if row["group"] == "purified":
        return f"{attack}, {name(row['defence'])}"
    trigger = "" if row["trigger"] == "profile's" else f", {row['trigger']}"
    return f"{attack}{trigger}{'' if row['planted'] in (True, 'True') else ' (not planted)'}{' *' * _held(row)}"


def _held(row: dict) -> bool:
    return row["held_out"] in (True, "True")


def _curve(rows: pd.DataFrame, line: dict) -> dict[str, list[float]]:
    """False and true positives of one line, from its own encoders."""
    attacked = rows[(rows["group"] == "attacked") & rows["planted"].isin([True, "True"])]
    kept = {
        "held-out trigger": attacked["trigger"] != "profile's",
        "held-out attack": attacked["attack"] != "badencoder",
    }.get(line["attacked"])
    if kept is not None:
        attacked = attacked[kept & attacked["held_out"].isin([True, "True"])]
    false, true = roc(rows[rows["group"] == "clean"]["size"].astype(float), attacked["size"].astype(float))
    return {"false": false, "true": true}


@styled
def draw_roc_inspect(numbers: dict) -> Figure:
    """Left: scores. Right: ROC."""
    kinds, curves = numbers["kinds"], numbers["curves"]
    if not kinds or not curves:
        return empty("No encoders have been inspected yet.")
    figure = new_figure(max(3.2, 0.3 * len(kinds) + 1.6))
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.1, 1)})
    _scores(left, kinds, numbers["threshold"])
    for curve in curves:
        colour, dashes = LINES[curve["attacked"]]
        label = f"{curve['attacked']}, n = {curve['n_attacked']}: {curve['auc']:.3f}"
        right.plot(curve["false"], curve["true"], color=colour, ls=dashes, label=label)
    right.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=(0, (1, 3)))
    right.set(xlabel="clean encoders flagged (share)", ylabel="attacked encoders flagged (share)")
    right.legend(loc="lower right", fontsize=7.5, title="AUC", title_fontsize=7.5, handlelength=1.6)
    first = curves[0]
    footer(
        figure,
        f"One mark an encoder, each of its own training; small sizes are suspicious. * held out from the design of the "
        f"search. Dashed line: threshold, drawn from n = {numbers['n_reference']} other clean encoders; below it lie "
        f"{numbers['flagged_clean']} of {numbers['n_clean']} clean ones (95 % exact interval "
        f"{100 * numbers['fpr_low']:.0f} to {100 * numbers['fpr_high']:.0f} %). AUC of all: 95 % bootstrap interval "
        f"over seeds {first['low']:.3f} to {first['high']:.3f}, which is a point where no scores overlap.",
    )
    return figure


def _scores(ax: Axes, kinds: list[dict], limit: float | None) -> None:
    attacked = [each["kind"] for each in kinds if each["group"] == "attacked"]
    for place, each in enumerate(kinds):
        colour, mark = GROUPS.get(each["group"]) or MARKS[attacked.index(each["kind"]) % len(MARKS)]
        sizes = [100 * size for size in each["sizes"]]
        ax.plot(sizes, [place] * len(sizes), ls="", marker=mark, color=colour, ms=5, alpha=0.75, mec="white", mew=0.4)
    if limit is not None:
        ax.axvline(100 * limit, color=GREY, ls="--", lw=1)
    ax.set_yticks(range(len(kinds)), [each["kind"] for each in kinds])
    ax.set(xlabel="size of the smallest trigger (% of the image)", ylim=(len(kinds) - 0.5, -0.5))
    ax.set_xlim(left=0)


def alt_roc_inspect(numbers: dict) -> str:
    """The figure in words: every AUC, the threshold, the sizes' ranges."""
    if not numbers["kinds"] or not numbers["curves"]:
        return "Sizes of inverted triggers of clean and attacked encoders and their ROC: none yet."
    ranges = "; ".join(f"{each['kind']} {_range(each['sizes'])}" for each in numbers["kinds"])
    areas = "; ".join(
        f"{curve['attacked']} {curve['auc']:.3f} ({curve['low']:.3f} to {curve['high']:.3f})"
        for curve in numbers["curves"]
    )
    return (
        f"Size of the smallest trigger in percent of the image, by kind of encoder: {ranges}. Threshold "
        f"{100 * numbers['threshold']:.1f}, below it {numbers['flagged_clean']} of {numbers['n_clean']} clean ones. "
        f"Area under the ROC with 95 % interval: {areas}."
    )


def _range(sizes: list[float]) -> str:
    low, high = 100 * min(sizes), 100 * max(sizes)
    return f"{low:.1f} to {high:.1f}" if len(sizes) > 1 else f"{low:.1f}"
