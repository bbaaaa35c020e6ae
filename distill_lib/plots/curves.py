"""Sweeps: ACC and ASR along a setting that varies, one row of panels a sweep, one line a cell."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distill_lib.evaluation.cells import EXPLORATION_SEEDS, shared_seeds
from distill_lib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    root_scale,
    styled,
)
from distill_lib.plots.summary import counts, series

RATES = {"acc": "ACC (%)", "asr": "ASR (%)"}
# Cells that are in most sweeps look the same in each; the others take what is left, in order.
KNOWN = {
    "clean": (BLACK, "o", ":"),
    "attacked": (VERMILION, "X", "--"),
    "finetune": (BLUE, "s", "-"),
    "clean_share": (SKY, "^", "-."),
    "recipe": (ORANGE, "D", "-"),
}
FREE = [
    (BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "^", "-."), (PURPLE, "D", ":"), (ORANGE, "v", "-"),
    (BLACK, "X", "--"), (SKY, "P", "-."), (GREY, "<", ":"), ("#332288", ">", "-"), ("#882255", "p", "--"),
]  # fmt: skip
_WHERE = ["pretrain", "attack", "downstream"]
_NONE = {"robustness": "No setting has been varied yet.", "harm": "No distillation's length has been varied yet."}
_READ = {
    "robustness": "",
    "harm": " A line that rises in ASR spreads the backdoor, one that stays with the clean teacher's does not.",
}
_LINE, _LEAST = 0.17, 1.75  # inches: a legend's line, the lowest row of panels


def numbers_robustness(rows: pd.DataFrame) -> dict:
    """The curves to draw, on the seeds that every point of a panel has: a point that is the profile's own has more.

    Args:
        rows: The sweeps' measurements: `sweep` (panel), `axis`, `x` and `line` (text), and distillation.csv's columns.
    """
    return _numbers(rows, "robustness")


def numbers_harm(rows: pd.DataFrame) -> dict:
    """The curve of harm: the same along the distillation's steps, one line a state of the teacher."""
    return _numbers(rows, "harm")


def _numbers(rows: pd.DataFrame, what: str) -> dict:
    rows = rows[pd.to_numeric(rows["seed"]) < EXPLORATION_SEEDS]
    groups = [(key, shared_seeds(found, ["x", "line"])) for key, found in rows.groupby(["sweep", *_WHERE], sort=False)]
    panels = [_panel_of(*group) for group in groups if len(group[1])]
    return {"what": what, "panels": [panel for panel in panels if len(panel["x"]) > 1]}  # a point alone is no curve


def _panel_of(key: tuple[str, ...], rows: pd.DataFrame) -> dict[str, Any]:
    x = list(dict.fromkeys(rows["x"]))
    x = sorted(x, key=float) if all(_is_number(each) for each in x) else x
    lines = [_line(str(line), found, x) for line, found in rows.groupby("line", sort=False)]
    scope = dict(zip(_WHERE, key[1:], strict=True))
    return {"sweep": key[0], "axis": rows["axis"].iloc[0], "scope": scope, "x": x, "lines": lines}


def _line(line: str, rows: pd.DataFrame, x: list[str]) -> dict[str, Any]:
    points = {}
    for place in x:
        found = rows[rows["x"] == place].drop_duplicates("seed", keep="last").set_index("seed").sort_index()
        if len(found):
            points[place] = {rate: series(found, rate) for rate in RATES}
    return {"line": line, "points": points}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@styled
def draw_curves(numbers: dict) -> Figure:
    """One row a sweep: accuracy left, attack success in the middle, the lines' names right."""
    panels, what = numbers["panels"], numbers["what"]
    if not panels:
        return empty(_NONE[what])
    marks = _marks(panels)
    heights = [max(_LEAST, _LINE * len(panel["lines"]) + 0.75) for panel in panels]
    figure = new_figure(sum(heights) + 0.75)
    figure.get_layout_engine().set(hspace=0.05, wspace=0.03)
    ratios = {"width_ratios": [1, 1, 0.62], "height_ratios": heights}
    axes = figure.subplots(len(panels), 3, squeeze=False, gridspec_kw=ratios)
    for line, panel in zip(axes, panels, strict=True):
        for ax, rate in zip(line[:2], RATES, strict=True):
            _panel(ax, panel, rate, marks)
        line[0].set_title(_title(panel))
        _legend(line[2], panel, marks)
    footer(
        figure,
        f"{interval_words(counts(panels))} ASR: on non-target images, square-root scale; ACC: not from 0. Points "
        f"along an axis are the values measured, equally spaced.{_READ[what]}",
    )
    return figure


def alt_curves(numbers: dict) -> str:
    """The figure in words: every line's first and last mean."""
    parts = []
    for panel in numbers["panels"]:
        said = (f"{_shown(line['line'])} {_say(line)}" for line in panel["lines"])
        parts.append(f"{_title(panel)}, {panel['axis']} {panel['x'][0]} to {panel['x'][-1]}: {', '.join(said)}")
    start = "Mean ACC/ASR in percent at the first and the last value of each setting that varies"
    return f"{start}. {'; '.join(parts) or _NONE[numbers['what']]}"


def _say(line: dict) -> str:
    ends = [line["points"][x] for x in (next(iter(line["points"])), next(reversed(line["points"])))]
    return " to ".join(f"{end['acc']['mean']:.1f}/{end['asr']['mean']:.1f}" for end in ends)


def _title(panel: dict) -> str:
    scope = panel["scope"]
    where = f"{name(scope['attack'])}, {name(scope['pretrain'])} → {name(scope['downstream'])}"
    return f"{panel['sweep'][:1].upper()}{panel['sweep'][1:]} ({where})"


def _marks(panels: list[dict]) -> dict[str, tuple[str, str, str]]:
    """Line -> colour, marker, dashes; the same in each panel."""
    words = dict.fromkeys(line["line"] for panel in panels for line in panel["lines"])
    others = [word for word in words if word not in KNOWN]
    return {**KNOWN, **{word: FREE[i % len(FREE)] for i, word in enumerate(others)}}


def _panel(ax: Axes, panel: dict, rate: str, marks: dict) -> None:
    for line in panel["lines"]:
        colour, marker, dashes = marks[line["line"]]
        places = [panel["x"].index(x) for x in line["points"]]
        found = [point[rate] for point in line["points"].values()]
        means = [each["mean"] for each in found]
        ax.plot(places, means, marker=marker, ms=6, color=colour, ls=dashes, lw=1.2, mec="white", mew=0.6, zorder=3)
        for place, each in zip(places, found, strict=True):
            _spread(ax, place, each, colour)
    ax.set_xticks(range(len(panel["x"])), [name(x) for x in panel["x"]])
    ax.set_xlim(-0.4, len(panel["x"]) - 0.6)
    ax.set_xlabel(textwrap.fill(panel["axis"], 42))
    ax.set_ylabel(RATES[rate])
    ax.margins(y=0.12)
    if rate == "asr":
        root_scale(ax, "y")


def _spread(ax: Axes, place: int, found: dict, colour: str) -> None:
    """Whiskers from 3 seeds on; single seeds."""
    if found["low"] is not None:
        reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
        ax.errorbar(place, found["mean"], yerr=reach, color=colour, capsize=2.5, linewidth=1, alpha=0.8, zorder=2)
    if found["n"] > 1:
        ax.plot([place] * found["n"], found["values"], "_", ms=6, mew=1, color=colour, zorder=4)


def _legend(ax: Axes, panel: dict, marks: dict) -> None:
    ax.set_axis_off()
    handles = []
    for line in panel["lines"]:
        colour, marker, dashes = marks[line["line"]]
        style = {"color": colour, "marker": marker, "ls": dashes, "ms": 6, "lw": 1.2, "mec": "white", "mew": 0.6}
        handles.append(Line2D([], [], label=_shown(line["line"]), **style))
    place = {"loc": "center left", "bbox_to_anchor": (-0.05, 0.5), "borderpad": 0, "handletextpad": 0.4}
    ax.legend(handles=handles, fontsize=8, **place)


def _shown(line: str) -> str:
    """`finetuned/random/cosine` is "fine-tuned / random / cosine"."""
    head, comma, rest = line.partition(", ")
    return f"{' / '.join(map(name, head.split('/')))}{comma}{rest}"
