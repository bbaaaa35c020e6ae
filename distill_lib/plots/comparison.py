"""Teachers, students, losses: one component varies, the other two stay at the paper's best."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.evaluation.cells import RECIPE, pick, scopes, tidy
from distill_lib.plots.style import (
    BLACK,
    BLUE,
    VERMILION,
    beside,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    scope_title,
    styled,
)
from distill_lib.plots.summary import anchors, both, counts

# The order of each component's names; names that a later study adds follow.
ORDER = {
    "teacher": ("poisoned", "finetuned", "pruned", "scratch", "clean", "random"),
    "student": ("random", "warmup", "copy"),
    "loss": ("kd", "sp", "fitnet", "cc", "at", "afd", "cosine", "mimic"),
}
CONTROLS = {"teacher": ("clean", "random")}
PLURAL = {"teacher": "teachers", "student": "students", "loss": "losses"}
_RATES = {"acc": "clean accuracy, ACC (%; not from 0)", "asr": "attack success, ASR on non-target images (%)"}


def numbers_comparison(table: pd.DataFrame, factor: str) -> dict:
    """Cells in which only `factor` differs from the recipe, in each scope that has two of them or more.

    Only seeds that every one of these cells has are compared: the recipe's other seeds would stand beside cells that
    never saw them.

    Args:
        table: distillation.csv.
        factor: `teacher`, `student` or `loss`.
    """
    fixed = {key: value for key, value in RECIPE.items() if key != factor}
    groups = []
    for scope, rows in scopes(tidy(table)):
        found = sorted(set(pick(rows, fixed)[factor]), key=lambda word: (_place(factor, word), word))
        seeds = [set(pick(rows, {**fixed, factor: word})["seed"]) for word in found]
        rows = rows[rows["seed"].isin(set.intersection(*seeds) if seeds else ())]
        cells = [{"name": word, **both(rows, {**fixed, factor: word})} for word in found]
        if len(cells) > 1:
            groups.append({"scope": scope, "anchors": anchors(rows), "cells": cells})
    return {"factor": factor, "fixed": {k: fixed[k] for k in ORDER if k in fixed}, "groups": groups}


@styled
def draw_comparison(numbers: dict) -> Figure:
    """One row of two panels a scope: accuracy on the left, attack success on the right."""
    groups, factor = numbers["groups"], numbers["factor"]
    if not groups:
        return empty(f"No {PLURAL[factor]} to compare yet: no attack and set has two of them.")
    sizes = [len(group["cells"]) + 1.6 for group in groups]
    figure = new_figure(0.27 * sum(sizes) + 0.42 * len(groups) + 0.9)
    figure.get_layout_engine().set(hspace=0.06, wspace=0.04)
    axes = figure.subplots(len(groups), 2, squeeze=False, gridspec_kw={"height_ratios": sizes})
    for line, group in zip(axes, groups, strict=True):
        for ax, rate in zip(line, _RATES, strict=True):
            _panel(ax, group, rate, factor)
        line[0].set_title(scope_title(group["scope"]))
        line[1].set_yticklabels([])
    for ax, label in zip(axes[-1], _RATES.values(), strict=True):
        ax.set_xlabel(label)
    # The figure's own title, since each row of panels has one.
    others = ", ".join(f"{key} {name(value)}" for key, value in numbers["fixed"].items())
    figure.suptitle(
        f"{PLURAL[factor].capitalize()} compared ({others})",
        fontsize=10.5,
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    footer(
        figure,
        f"{interval_words(counts(groups))} {_key(groups, factor)}",
    )
    return figure


def alt_comparison(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for group in numbers["groups"]:
        cells = (f"{name(c['name'])} {_say(c['acc'])}/{_say(c['asr'])}" for c in group["cells"])
        parts.append(f"{scope_title(group['scope'])}: {', '.join(cells)}")
    what = PLURAL[numbers["factor"]].capitalize()
    return f"{what} compared, mean ACC/ASR in percent. {'; '.join(parts) or 'No rows yet'}."


def _place(factor: str, word: str) -> int:
    order = ORDER[factor]
    head = word.partition(":")[0]
    return order.index(head) if head in order else len(order)


def _panel(ax: Axes, group: dict, rate: str, factor: str) -> None:
    cells = group["cells"]
    places = range(len(cells) - 1, -1, -1)
    for stage, dashes in (("clean", (0, (1.2, 1.5))), ("attacked", (0, (5, 2)))):
        mean = group["anchors"][stage][rate]["mean"]
        if mean is not None:
            ax.axvline(mean, color="#555555", linestyle=dashes, linewidth=1.1, zorder=1)
    for place, cell in zip(places, cells, strict=True):
        _row(ax, place, cell[rate], cell["name"], factor)
    ax.set_yticks(list(places), [name(c["name"]) for c in cells])
    ax.set_ylim(-0.7, len(cells) - 0.3)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    _limits(ax, group, rate)


def _row(ax: Axes, place: float, found: dict, word: str, factor: str) -> None:
    if found["mean"] is None:
        return
    colour = VERMILION if RECIPE[factor] == word else BLUE
    face = "white" if word in CONTROLS.get(factor, ()) else colour
    if found["low"] is not None:
        ax.errorbar(
            found["mean"],
            place,
            xerr=[[found["mean"] - found["low"]], [found["high"] - found["mean"]]],
            color=colour,
            capsize=3,
            linewidth=1.4,
            zorder=2,
        )
    marker = "D" if RECIPE[factor] == word else "o"
    ax.plot(found["mean"], place, marker=marker, ms=7.5, mfc=face, mec=colour, mew=1.4, zorder=3)
    ax.plot(found["values"], [place] * found["n"], "|", ms=7, mew=1, color=BLACK, zorder=4)
    beside(ax, place, f"{found['mean']:.1f}")


def _limits(ax: Axes, group: dict, rate: str) -> None:
    if rate == "asr":
        ax.set_xlim(-3, 103)
        return
    series = [cell[rate] for cell in group["cells"]] + [a[rate] for a in group["anchors"].values()]
    values = [v for s in series for v in (*s["values"], s["low"], s["high"]) if v is not None]
    room = max(1.0, 0.08 * (max(values) - min(values)))
    ax.set_xlim(max(0.0, min(values) - room), min(100.0, max(values) + room))


def _key(groups: list[dict], factor: str) -> str:
    stages = {s for g in groups for s, a in g["anchors"].items() if a["acc"]["mean"] is not None}
    lines = [
        words
        for stage, words in (("clean", "dotted: clean encoder"), ("attacked", "dashed: attacked encoder"))
        if stage in stages
    ]
    names = {cell["name"] for group in groups for cell in group["cells"]}
    marks = ["diamond: the paper's best"] if RECIPE[factor] in names else []
    marks += ["open: controls"] if names & set(CONTROLS.get(factor, ())) else []
    text = "; ".join([*marks, *lines])
    return f"{text[:1].upper()}{text[1:]}. Right of each panel: the mean." if text else "Right of each panel: the mean."


def _say(found: dict) -> str:
    return "-" if found["mean"] is None else f"{found['mean']:.1f}"
