"""Which ingredient does the work: the recipe with one ingredient less, and every plain defence, with their prices."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.evaluation.cells import EXPLORATION_SEEDS, shared_seeds
from distill_lib.plots.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    styled,
)
from distill_lib.plots.summary import counts, series

_WHERE = ["pretrain", "attack", "downstream"]
_RATES = {"acc": "clean accuracy, ACC (%; not from 0)", "asr": "ASR, non-target images (%)"}
_CEILING = ("recipe, clean teacher", "recipe, random teacher")  # ceiling and floor


def numbers_necessity(rows: pd.DataFrame) -> dict:
    """The rows to draw, compared on the seeds that every one of them has.

    Args:
        rows: `row` (what it is), distillation.csv's columns, `wall_s` in seconds and `peak_rss_mb`.
    """
    rows = rows[pd.to_numeric(rows["seed"]) < EXPLORATION_SEEDS]
    groups = []
    for key, found in rows.groupby(_WHERE, sort=False):
        found = shared_seeds(found, ["row"])
        if len(found):
            lines = [_line(str(row), each) for row, each in found.groupby("row", sort=False)]
            groups.append({"scope": dict(zip(_WHERE, key, strict=True)), "rows": lines})
    return {"groups": groups}


def _line(row: str, rows: pd.DataFrame) -> dict[str, Any]:
    rows = rows.drop_duplicates("seed", keep="last").set_index("seed").sort_index()
    rates = {rate: series(rows, rate) for rate in ("acc", "asr", "placebo_asr")}
    prices = {price: float(pd.to_numeric(rows[price]).mean()) for price in ("wall_s", "peak_rss_mb")}
    return {"row": row, **rates, **prices}


@styled
def draw_necessity(numbers: dict) -> Figure:
    """One row of two panels a scope, with time and memory beside."""
    groups = numbers["groups"]
    if not groups:
        return empty("No defence has been measured yet beside the recipe.")
    sizes = [len(group["rows"]) + 1.6 for group in groups]
    figure = new_figure(0.25 * sum(sizes) + 0.42 * len(groups) + 0.9)
    figure.get_layout_engine().set(hspace=0.06, wspace=0.04)
    ratios = {"height_ratios": sizes, "width_ratios": [1, 1, 0.4]}
    axes = figure.subplots(len(groups), 3, squeeze=False, gridspec_kw=ratios)
    for line, group in zip(axes, groups, strict=True):
        for ax, rate in zip(line[:2], _RATES, strict=True):
            _panel(ax, group["rows"], rate)
        line[0].set_title(_title(group["scope"]))
        line[1].set_yticklabels([])
        _prices(line[2], group["rows"])
    for ax, label in zip(axes[-1], _RATES.values(), strict=False):
        ax.set_xlabel(label)
    footer(
        figure,
        f"{interval_words(counts(groups))} Diamond: the recipe; open: a clean and a random teacher, ceiling and floor; "
        "triangle: ASR of the placebo. Time and peak memory: of all trainings that a row needs, mean over seeds, by "
        "the process that computed them.",
    )
    return figure


def alt_necessity(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for group in numbers["groups"]:
        said = (
            f"{_shown(r['row'])} {r['acc']['mean']:.1f}/{r['asr']['mean']:.1f}/{r['placebo_asr']['mean']:.1f}"
            for r in group["rows"]
        )
        parts.append(f"{_title(group['scope'])}: {', '.join(said)}")
    return f"What a defence needs, mean ACC/ASR/placebo ASR in percent. {'; '.join(parts) or 'No rows yet'}."


def _title(scope: dict[str, str]) -> str:
    return f"{name(scope['attack'])}, {name(scope['pretrain'])} → {name(scope['downstream'])}"


def _shown(row: str) -> str:
    return row if "," in row or row == "recipe" else name(row)


def _panel(ax: Axes, rows: list[dict], rate: str) -> None:
    places = range(len(rows) - 1, -1, -1)
    for place, row in zip(places, rows, strict=True):
        if rate == "asr":
            ax.plot(row["placebo_asr"]["mean"], place, "^", ms=5, mfc="white", mec=GREY, mew=1.1, zorder=2.5)
        _mark(ax, place, row["row"], row[rate])
    ax.set_yticks(list(places), [_shown(row["row"]) for row in rows])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.12)
    if rate == "asr":
        ax.set_xlim(-3, 103)


def _mark(ax: Axes, place: int, row: str, found: dict) -> None:
    colour = VERMILION if row == "recipe" else BLUE
    face = "white" if row in _CEILING else colour
    if found["low"] is not None:
        reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
        ax.errorbar(found["mean"], place, xerr=reach, color=colour, capsize=3, linewidth=1.3, zorder=2)
    marker = "D" if row == "recipe" else "o"
    ax.plot(found["mean"], place, marker=marker, ms=7, mfc=face, mec=colour, mew=1.4, zorder=3)
    ax.plot(found["values"], [place] * found["n"], "|", ms=7, mew=1, color=BLACK, zorder=4)
    beside = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(f"{found['mean']:.1f}", (1.0, place), fontsize=8.5, **beside)


def _prices(ax: Axes, rows: list[dict]) -> None:
    ax.set_axis_off()
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set_xlim(0, 1)
    for x, words in ((0.55, "time (s)"), (1.0, "GB")):
        ax.text(x, len(rows) - 0.3, words, ha="right", va="bottom", fontsize=8.5, fontweight="bold")
    for place, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
        for x, value, scale, digits in ((0.55, row["wall_s"], 1, 0), (1.0, row["peak_rss_mb"], 1024, 2)):
            text = "–" if value is None or value != value else f"{value / scale:,.{digits}f}"
            ax.text(x, place, text, ha="right", va="center", fontsize=8.5)
