"""Every defended encoder: what is left of the backdoor against what is left of the accuracy."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from distill_lib.evaluation.cells import RECIPE, scopes, tidy
from distill_lib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    root_scale,
    scope_title,
    styled,
)
from distill_lib.plots.summary import anchors, both, counts

_DIFFERS = ("teacher", "student", "loss")
# Plain defences: filled black. Families of distillation, by what differs from the recipe: one colour and
# face each.
PLAIN = {"finetune": "o", "clean_share": "s", "bn_reset": "^", "clp": "v", "fine_pruning": "D", "nad": "p"}
FAMILIES = {
    "teacher": (ORANGE, True),
    "student": (GREEN, True),
    "loss": (BLUE, False),
    "other": (PURPLE, False),
}
SHAPES = {
    "teacher": {"poisoned": "<", "pruned": ">", "scratch": "P", "clean": "X", "random": "d"},
    "student": {"random": "H", "copy": (4, 1, 0)},
    "loss": {"kd": "o", "sp": "s", "fitnet": "^", "cc": "v", "afd": "D", "cosine": "p", "mimic": "h"},
}
_SPARE = ("$a$", "$b$", "$c$", "$e$", "$g$", "$k$", "$m$", "$n$", "$r$", "$t$", "$u$", "$w$", "$z$")
_COLUMNS = 2
_BESIDE = 24  # entries of a legend that fit into a panel's place,
_NARROW = 18  # of so many letters


def numbers_acc_asr(table: pd.DataFrame) -> dict:
    """Each scope's clean, attacked and defended encoders.

    Args:
        table: distillation.csv.
    """
    panels = []
    for scope, rows in scopes(tidy(table)):
        defended = rows[(rows["stage"] == "defended") & (rows["defence"] != "none")]
        keys = defended[["stage", "defence", *_DIFFERS]].drop_duplicates().to_dict("records")
        cells = [{**_label(key), **both(rows, key)} for key in keys]
        found = anchors(rows)
        if cells or any(a["acc"]["n"] for a in found.values()):
            panels.append({"scope": scope, "anchors": found, "cells": sorted(cells, key=_order)})
    return {"panels": panels}


@styled
def draw_acc_asr(numbers: dict) -> Figure:
    """One panel a scope; arrows from clean to attacked and from attacked to the recipe."""
    panels = numbers["panels"]
    if not panels:
        return empty("No encoder has been measured yet: the table has no such rows.")
    marks = _marks(panels)
    figure, axes, columns = _grid(len(panels), _legend(marks))
    for position, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _panel(ax, panel, marks)
        ax.set_title(scope_title(panel["scope"]), fontsize=9)
        ax.set_xlabel("ASR on non-target images (%, square-root scale)")
        if position % columns == 0:
            ax.set_ylabel("clean accuracy, ACC (%; not from 0)")
    footer(
        figure,
        f"{interval_words(counts(panels), singles=False)} Better is up and to the left. "
        "Grey arrow: the attack; red: the recipe named beforehand (fine-tuned teacher, warm-up student, AT).",
    )
    return figure


def alt_acc_asr(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        encoders = [{"label": stage, **found} for stage, found in panel["anchors"].items()] + panel["cells"]
        said = (f"{e['label']} {e['acc']['mean']:.1f}/{e['asr']['mean']:.1f}" for e in encoders if e["acc"]["n"])
        parts.append(f"{scope_title(panel['scope'])}: {', '.join(said)}")
    return f"ACC against ASR of every encoder, mean ACC/ASR in percent. {'; '.join(parts) or 'No rows yet'}."


def _grid(count: int, handles: list[Line2D]) -> tuple[Figure, list[Axes], int]:
    """Axes for the panels, with the legend in the place that is left over, or in a row of its own below."""
    columns = min(_COLUMNS, count)
    rows, spare = -(-count // columns), count % columns
    narrow = all(len(h.get_label()) <= _NARROW for h in handles)
    beside = spare > 0 and narrow and len(handles) <= _BESIDE
    across = 2 if beside else 3
    heights = [2.9] * rows + ([] if beside else [0.2 * -(-len(handles) // across)])
    figure = new_figure(sum(heights) + 0.75)
    figure.get_layout_engine().set(h_pad=0.06)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(count)]
    key = figure.add_subplot(grid[rows - 1, spare:] if beside else grid[rows, :])
    key.set_axis_off()
    spacing = {"columnspacing": 0.8, "handletextpad": 0.3, "borderpad": 0, "fontsize": 8}
    legend = key.legend(handles=handles, loc="center", ncols=across, **spacing)
    legend.set_in_layout(not beside)  # wide names must not narrow the panels
    return figure, axes, columns


def _label(key: dict[str, str]) -> dict[str, Any]:
    """What a cell is called and which family it belongs to."""
    if key["defence"] != "distillation":
        return {"label": name(key["defence"]), "family": "plain", "word": key["defence"]}
    off = [part for part in _DIFFERS if key[part] != RECIPE[part]]
    if not off:
        return {"label": "the recipe", "family": "recipe", "word": "recipe"}
    if len(off) == 1:
        return {"label": f"{off[0]} {name(key[off[0]])}", "family": off[0], "word": key[off[0]]}
    words = ", ".join(name(key[part]) for part in _DIFFERS)
    return {"label": words, "family": "other", "word": words}


def _order(cell: dict) -> tuple:
    families = ["recipe", "plain", *FAMILIES]
    known = list(PLAIN if cell["family"] == "plain" else SHAPES.get(cell["family"], ()))
    return (
        families.index(cell["family"]),
        known.index(cell["word"]) if cell["word"] in known else 99,
        cell["label"],
    )


def _marks(panels: list[dict]) -> dict[str, dict]:
    """Label -> line properties; the same in each panel."""
    cells = sorted((c for p in panels for c in p["cells"]), key=_order)
    spare, marks = iter(_SPARE * 9), {}
    for cell in cells:
        if cell["label"] in marks:
            continue
        family, word = cell["family"], cell["word"]
        if family == "recipe":
            style = {"marker": "*", "ms": 14, "mfc": VERMILION, "mec": BLACK, "mew": 0.7}
        elif family == "plain":
            style = {
                "marker": PLAIN.get(word) or next(spare),
                "ms": 6.5,
                "mfc": BLACK,
                "mec": "white",
                "mew": 0.6,
            }
        else:
            colour, filled = FAMILIES[family]
            marker = SHAPES.get(family, {}).get(word) or next(spare)
            face = colour if filled or marker in _SPARE else "white"
            style = {
                "marker": marker,
                "ms": 7,
                "mfc": face,
                "mec": BLACK if filled else colour,
                "mew": 0.6 if filled else 1.4,
            }
        marks[cell["label"]] = style
    return marks


ANCHORS = {
    "clean": {"marker": "o", "ms": 11, "mfc": "white", "mec": BLACK, "mew": 2.0},
    "attacked": {"marker": "X", "ms": 11, "mfc": "white", "mec": BLACK, "mew": 1.8},
}
# The attack takes little accuracy: the one word above, the other below, or they meet where it moves little else, too.
_WORD = {"ha": "center", "fontsize": 8, "path_effects": [withStroke(linewidth=2, foreground="white")]}
BESIDE_ANCHORS = {"clean": {"xytext": (0, 9), **_WORD}, "attacked": {"xytext": (0, -9), "va": "top", **_WORD}}


def _panel(ax: Axes, panel: dict, marks: dict[str, dict]) -> None:
    for cell in panel["cells"]:
        _point(ax, cell, marks[cell["label"]])
    for stage, found in panel["anchors"].items():
        _point(ax, found, ANCHORS[stage])
        if place := _place(found):
            ax.annotate(stage, place, textcoords="offset points", **BESIDE_ANCHORS[stage], zorder=4)
    clean, attacked = (_place(panel["anchors"][stage]) for stage in ("clean", "attacked"))
    recipe = next((_place(cell) for cell in panel["cells"] if cell["family"] == "recipe"), None)
    _arrow(ax, clean, attacked, GREY)
    _arrow(ax, attacked, recipe, VERMILION)
    root_scale(ax, "x")
    ax.margins(y=0.15)


def _place(found: dict) -> tuple[float, float] | None:
    return (found["asr"]["mean"], found["acc"]["mean"]) if found["acc"]["n"] and found["asr"]["n"] else None


def _arrow(ax: Axes, start, end, colour: str) -> None:
    if start and end:
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 8, "shrinkB": 8, "alpha": 0.8}
        ax.annotate("", end, start, arrowprops=style, zorder=1.5)


def _point(ax: Axes, found: dict, style: dict) -> None:
    place = _place(found)
    if place is None:
        return
    x, y = found["asr"], found["acc"]
    colour = style["mec"] if style["mfc"] == "white" else style["mfc"]
    if x["low"] is not None:
        bars = {
            "xerr": [[x["mean"] - x["low"]], [x["high"] - x["mean"]]],
            "yerr": [[y["mean"] - y["low"]], [y["high"] - y["mean"]]],
        }
        ax.errorbar(*place, **bars, color=colour, linewidth=0.8, alpha=0.6, zorder=2)
    elif x["n"] > 1 and x["seeds"] == y["seeds"]:
        small = {"marker": style["marker"], "ms": 3.2, "color": colour, "mew": 0.4, "alpha": 0.55}
        ax.plot(x["values"], y["values"], ls="", **small, zorder=2.5)
    ax.plot(*place, ls="", **style, zorder=3)


def _legend(marks: dict[str, dict]) -> list[Line2D]:
    anchors_too = {"clean encoder": ANCHORS["clean"], "attacked encoder": ANCHORS["attacked"], **marks}
    return [
        Line2D([], [], ls="", label=label, **{**style, "ms": min(style["ms"], 9)})
        for label, style in anchors_too.items()
    ]
