"""The headline: our ASR before and after distillation and its price, the published numbers apart."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.evaluation.cells import RECIPE, by_seed, scopes, tidy
from distill_lib.evaluation.published import published
from distill_lib.plots.style import (
    BLACK,
    GREY,
    VERMILION,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    styled,
)
from distill_lib.plots.summary import anchors, both, counts, series

_RECIPE_WORDS = "fine-tuned teacher, warm-up student, AT"


def numbers_headline(table: pd.DataFrame) -> dict:
    """Attacked and distilled encoder a scope, on the seeds that have both, and the published numbers.

    Args:
        table: distillation.csv.
    """
    rows = []
    for scope, part in scopes(tidy(table)):
        seeds = set(by_seed(part, RECIPE).index) & set(by_seed(part, {"stage": "attacked"}).index)
        part = part[part["seed"].isin(seeds)]
        recipe, found = both(part, RECIPE), anchors(part)
        if recipe["acc"]["n"] and found["attacked"]["acc"]["n"]:
            change = {stage: _change(part, stage) for stage in ("attacked", "clean")}
            before, after = found["attacked"]["asr"], recipe["asr"]
            rows.append({"scope": scope, "before": before, "after": after, "acc_change": change})
    numbers = {key: published(f"headline.{key}") for key in ("asr_before", "asr_after", "acc_change")}
    about = {"source": numbers["asr_before"].source, "note": numbers["asr_before"].note}
    return {"rows": rows, "published": {**{key: p.value for key, p in numbers.items()}, **about}}


@styled
def draw_headline(numbers: dict) -> Figure:
    """Left: ASR before and after. Right: the change of accuracy. The published row is boxed, below ours."""
    rows, known = numbers["rows"], numbers["published"]
    if not rows:
        return empty("The recipe has not been measured on an attacked encoder yet: nothing to put beside the paper.")
    figure = new_figure(0.46 * (len(rows) + 1) + 2.05)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.75, 1]}, sharey=True)
    figure.get_layout_engine().set(wspace=0.06)
    places = [len(rows) + 0.7 - i for i in range(len(rows))]  # the published row lies at 0
    for place, row in zip(places, rows, strict=True):
        _dumbbell(left, place, row)
        _changes(right, place, row["acc_change"])
    _published(left, right, known)
    left.set_yticks([*places, 0], [*(_row_name(row["scope"]) for row in rows), "published:\nother set-up"])
    left.set_ylim(-0.65, len(rows) + 1.25)
    left.set_xlim(-3, 106)
    left.set(xlabel="ASR on non-target images (%)", title="Backdoor: attacked → distilled")
    right.set(xlabel="change of ACC (points)", title="Price in accuracy")
    for ax in (left, right):
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    footer(
        figure,
        f"Ours: {_RECIPE_WORDS}. Left: open circle attacked, filled distilled. Right: triangle, distilled "
        f"− attacked; square, distilled − clean; paired by seed. {interval_words(counts(rows))}\n"
        f"Published: {known['source'].split(' (')[0]}, {known['note']}; ASR's denominator, n and intervals: "
        "not stated. Not comparable row by row.",
    )
    return figure


def alt_headline(numbers: dict) -> str:
    """The figure in words."""
    ours = [
        f"{_row_name(row['scope'])} {row['before']['mean']:.1f} to {row['after']['mean']:.1f}"
        + "".join(f", ACC {c['mean']:+.1f} against {stage}" for stage, c in row["acc_change"].items() if c["n"])
        for row in numbers["rows"]
    ]
    p = numbers["published"]
    said = "; ".join(ours).replace("\n", " ") or "no rows yet"
    return (
        f"ASR in percent before and after distillation. Ours: {said}. Published, in another set-up: "
        f"{p['asr_before']} to {p['asr_after']}, ACC {p['acc_change']:+}."
    )


def _change(part: pd.DataFrame, stage: str) -> dict:
    """Distilled minus `stage`, in ACC, paired by seed."""
    ours, theirs = by_seed(part, RECIPE), by_seed(part, {"stage": stage})
    return series((ours["acc"] - theirs["acc"]).to_frame("acc"), "acc")


def _row_name(scope: dict[str, str]) -> str:
    return f"{name(scope['attack'])}\n{name(scope['pretrain'])} → {name(scope['downstream'])}"


def _dumbbell(ax: Axes, place: float, row: dict) -> None:
    before, after = row["before"], row["after"]
    _arrow(ax, place, before["mean"], after["mean"], VERMILION)
    for found, face in ((before, "white"), (after, VERMILION)):
        _whiskers(ax, place, found, VERMILION)
        ax.plot(found["mean"], place, "o", ms=8, mfc=face, mec=VERMILION, mew=1.6, zorder=3)
        ax.plot(found["values"], [place] * found["n"], "|", ms=7, mew=0.9, color=BLACK, zorder=4)
        _value(ax, found["mean"], place, f"{found['mean']:.1f}")


def _changes(ax: Axes, place: float, changes: dict) -> None:
    for offset, (stage, marker) in zip((0.2, -0.2), (("attacked", "<"), ("clean", "s")), strict=True):
        found = changes[stage]
        if found["n"]:
            _whiskers(ax, place + offset, found, VERMILION)
            ax.plot(found["mean"], place + offset, marker, ms=6.5, color=VERMILION, mec=BLACK, mew=0.5, zorder=3)
            ax.plot(found["values"], [place + offset] * found["n"], "|", ms=5, mew=0.8, color=BLACK, zorder=4)
            words = f"{found['mean']:+.1f}".replace("-", "−")
            beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            ax.annotate(words, (1.0, place + offset), xycoords=("axes fraction", "data"), **beside)


def _published(left: Axes, right: Axes, known: dict) -> None:
    for ax in (left, right):
        ax.axhspan(-0.6, 0.6, color="#EFEFEF", zorder=0)
        ax.axhline(0.85, color="#555555", linewidth=1, linestyle=(0, (4, 3)))
    _arrow(left, 0, known["asr_before"], known["asr_after"], GREY)
    for value, face in ((known["asr_before"], "white"), (known["asr_after"], GREY)):
        left.plot(value, 0, "D", ms=7, mfc=face, mec=GREY, mew=1.6, zorder=3)
        _value(left, value, 0, f"{value:.2f}")
    right.plot(known["acc_change"], 0, "D", ms=7, color=GREY, zorder=3)
    _value(right, known["acc_change"], 0, f"{known['acc_change']:+.2f}".replace("-", "−"))
    right.axvline(0, color="#555555", linewidth=0.9)
    right.margins(x=0.15)


def _arrow(ax: Axes, place: float, start: float, end: float, colour: str) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 6, "shrinkB": 6}
    ax.annotate("", (end, place), (start, place), arrowprops=style, zorder=1)


def _whiskers(ax: Axes, place: float, found: dict, colour: str) -> None:
    if found["low"] is not None:
        reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
        ax.errorbar(found["mean"], place, xerr=reach, color=colour, capsize=3, linewidth=1.2, zorder=2)


def _value(ax: Axes, x: float, place: float, text: str) -> None:
    ax.annotate(text, (x, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
