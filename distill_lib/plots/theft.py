"""What thieves get: students by teacher and thief, along alpha and T, AST's ablation, the trade of each defence."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distill_lib.evaluation.undistillable import controls_of, reported, stakes_of, trades
from distill_lib.plots.answers import TEACHER_MARKS, mark
from distill_lib.plots.style import (
    BLACK,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    empty,
    footer,
    interval_words,
    name,
    new_figure,
    styled,
)
from distill_lib.plots.summary import counts, series

CONTROLS = {
    "alone": (GREY, "--"),
    "label_smoothing": (ORANGE, ":"),
    "alone_part": (SKY, "-."),
    "skeptical_alone": (PURPLE, "-"),
}
SPREAD = 0.17  # of a row: teachers beside each other
VARIANT_MARKS = {"normal": (BLACK, "o")}
COLUMNS = {
    "acc": "teacher's ACC (%)",
    "student_acc": "KD student's ACC (%)",
    "warm_entropy_share": "entropy at T (%)",
    "peaks": "peaks",
}
STAKE = "student trained alone"
CHEAP, HARMFUL = 2.0, 3.0  # points: what a defence may cost its owner, and has to cost the thief


def _marked(teacher: str) -> tuple[str, str]:
    return TEACHER_MARKS.get(teacher, (GREY, "o"))


def _by_seed(rows: pd.DataFrame, column: str = "acc") -> dict[str, Any]:
    return series(rows.set_index("seed").sort_index(), column)


def numbers_stolen(table: pd.DataFrame, exploring: bool = False) -> dict:
    """Accuracy of every student, by thief and teacher, and of those that asked nobody.

    Args:
        table: undistillable.csv.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.
    """
    rows = reported(table, exploring)
    students, panels = rows[rows["stage"] == "student"], []
    for (dataset, student), own in students.groupby(["dataset", "student"], sort=False):
        thieves = []
        for thief, found in own[own["teacher"] != ""].groupby("thief", sort=False):
            teachers = {str(each): _by_seed(part) for each, part in found.groupby("teacher", sort=False)}
            same = own[own["seed"].isin(found["seed"])]
            thieves.append(
                {"thief": str(thief), "teachers": _ordered(teachers), "controls": _controls(same, str(thief))}
            )
        panels.append({"dataset": str(dataset), "student": str(student), "thieves": thieves})
    return {"panels": panels}


def _controls(students: pd.DataFrame, thief: str) -> dict[str, Any]:
    """Who asked nobody and is otherwise like a thief."""
    held = [control for control in controls_of(thief).values() if (students["thief"] == control).any()]
    return {control: _by_seed(students[students["thief"] == control]) for control in held}


def _ordered(teachers: dict[str, Any]) -> dict[str, Any]:
    known = [each for each in TEACHER_MARKS if each in teachers]
    return {each: teachers[each] for each in dict.fromkeys([*known, *teachers])}


@styled
def draw_stolen(numbers: dict) -> Figure:
    """One panel a network of students, one row a thief."""
    panels = [panel for panel in numbers["panels"] if panel["thieves"]]
    if not panels:
        return empty("No student has been stolen yet.")
    heights = [len(panel["thieves"]) for panel in panels]
    figure = new_figure(0.62 * sum(heights) + 0.6 * len(panels) + 0.9)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        places = list(range(len(panel["thieves"]) - 1, -1, -1))
        for place, thief in zip(places, panel["thieves"], strict=True):
            many = len(thief["teachers"])
            for index, (teacher, found) in enumerate(thief["teachers"].items()):
                mark(ax, place + SPREAD * ((many - 1) / 2 - index), found, *_marked(teacher))
            _control_lines(ax, place, thief["controls"])
        ax.set_yticks(places, [name(thief["thief"]) for thief in panel["thieves"]])
        ax.set(xlabel="student's ACC (%)", ylim=(-0.6, len(places) - 0.4))
        ax.set_title(f"{name(panel['dataset'])}, students {name(panel['student'])}")
    figure.legend(handles=_legend(panels), loc="outside upper center", ncols=3)
    footer(
        figure,
        f"{interval_words(counts(panels))} Vertical lines: means of students that never asked a teacher, over a row's "
        "own seeds, in the rows of thieves with the same images, labels and heads.",
    )
    return figure


def _control_lines(ax: Axes, place: float, controls: dict[str, dict]) -> None:
    """A row's own controls, so that nobody is held against a student with other images, heads or seeds."""
    for control, found in controls.items():
        colour, dashes = CONTROLS[control]
        ax.plot([found["mean"]] * 2, [place - 0.5, place + 0.5], color=colour, ls=dashes, lw=1.4, zorder=1)


def _legend(panels: list[dict]) -> list[Line2D]:
    teachers = dict.fromkeys(t for panel in panels for thief in panel["thieves"] for t in thief["teachers"])
    controls = dict.fromkeys(each for panel in panels for thief in panel["thieves"] for each in thief["controls"])
    marks = [Line2D([], [], ls="", marker=m, color=c, ms=7, label=name(t)) for t in teachers for c, m in [_marked(t)]]
    lines = [Line2D([], [], color=c, ls=d, label=name(each)) for each in controls for c, d in [CONTROLS[each]]]
    return [*marks, *lines]


def alt_stolen(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        said = []
        for thief in panel["thieves"]:
            means = [f"{name(t)} {found['mean']:.1f}" for t, found in thief["teachers"].items()]
            nobody = [f"{name(c)} {found['mean']:.1f}" for c, found in thief["controls"].items()]
            beside = f", beside {', '.join(nobody)}" if nobody else ""
            said.append(f"{name(thief['thief'])} from {', '.join(means)}{beside}")
        parts.append(f"{name(panel['dataset'])}, {name(panel['student'])}: {'; '.join(said)}")
    return f"ACC in percent of students by thief and teacher. {'. '.join(parts) or 'None yet'}."


def numbers_temperatures(sweep: pd.DataFrame, alone: pd.DataFrame) -> dict:
    """KD students along T, one panel an alpha.

    Args:
        sweep: `alpha`, `temperature`, `teacher`, `seed`, `acc`.
        alone: The control's rows, of which the sweep's seeds count.
    """
    panels = []
    for alpha, rows in sweep.groupby("alpha"):
        lines = {}
        for teacher, found in rows.groupby("teacher", sort=False):
            points = [(float(t), _by_seed(part)) for t, part in found.groupby("temperature")]
            lines[str(teacher)] = {"temperature": [t for t, _ in points], "acc": [each for _, each in points]}
        panels.append({"alpha": float(alpha), "lines": _ordered(lines)})
    control = alone[alone["seed"].isin(sweep["seed"])] if len(sweep) else alone.iloc[:0]
    return {"panels": panels, "alone": _by_seed(control)}


@styled
def draw_temperatures(numbers: dict) -> Figure:
    """One line a teacher."""
    panels = numbers["panels"]
    if not panels:
        return empty("KD has not been swept yet.")
    figure = new_figure(3.1)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, panel in zip(axes, panels, strict=True):
        ticks = sorted({t for line in panel["lines"].values() for t in line["temperature"]})
        for teacher, line in panel["lines"].items():
            colour, marker = _marked(teacher)
            means = [each["mean"] for each in line["acc"]]
            places = [ticks.index(t) for t in line["temperature"]]
            ax.plot(places, means, color=colour, marker=marker, ms=6, label=name(teacher))
        if numbers["alone"]["n"]:
            ax.axhline(numbers["alone"]["mean"], color=GREY, ls="--", lw=1.4, label="alone")
        ax.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks])
        ax.set(xlabel="T (order, no scale)")
        ax.set_title(f"alpha {panel['alpha']:g}")
    axes[0].set_ylabel("KD student's ACC (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    many = sorted(set(counts(panels)))
    seeds = f"n = {many[0]}" if len(many) == 1 else f"n = {many[0]} to {many[-1]}"
    footer(figure, f"Means over seeds ({seeds}); no interval is drawn. Dashed: the student trained alone, same seeds.")
    return figure


def alt_temperatures(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        for teacher, line in panel["lines"].items():
            pairs = zip(line["temperature"], line["acc"], strict=True)
            said = ", ".join(f"{found['mean']:.1f} at T {t:g}" for t, found in pairs)
            parts.append(f"alpha {panel['alpha']:g}, {name(teacher)}: {said}")
    return f"ACC in percent of KD students along T. {'; '.join(parts) or 'None yet'}."


def numbers_ablation(rows: pd.DataFrame) -> dict:
    """AST with one part switched at a time, and the normal teacher above.

    Args:
        rows: `variant`, `seed`, `acc`, `student_acc`, `warm_entropy_share` (0 to 1), `peaks`.
    """
    rows = rows.assign(warm_entropy_share=100 * rows["warm_entropy_share"])
    return {
        "variants": [
            {"variant": str(variant), **{column: _by_seed(found, column) for column in COLUMNS}}
            for variant, found in rows.groupby("variant", sort=False)
        ]
    }


@styled
def draw_ablation(numbers: dict) -> Figure:
    """One row a variant, one column a measure."""
    variants = numbers["variants"]
    if not variants:
        return empty("AST has not been taken apart yet.")
    figure = new_figure(0.36 * len(variants) + 1.3)
    axes = figure.subplots(1, len(COLUMNS))
    places = list(range(len(variants) - 1, -1, -1))
    for column, (ax, (measure, label)) in enumerate(zip(axes, COLUMNS.items(), strict=True)):
        for place, each in zip(places, variants, strict=True):
            mark(ax, place, each[measure], *VARIANT_MARKS.get(each["variant"], _marked("ast")))
        ax.set_yticks(places, [WORDS.get(each["variant"], each["variant"]) for each in variants] if not column else [])
        ax.set(xlabel=label, ylim=(-0.6, len(variants) - 0.4))
        ax.margins(x=0.1)
        ax.locator_params(axis="x", nbins=4)
    footer(figure, f"{interval_words(counts(variants))} Each row switches one part of this profile's AST.")
    return figure


WORDS = {
    "ast": "AST",
    "kl": "KL for EPD",
    "kl_matched": "KL, as strong as EPD",
    "dense": "dense targets",
    "clean": "clean targets",
    "clamped": "clean, but clamped",
    "augmented": "augmented targets",
}


def alt_ablation(numbers: dict) -> str:
    """The figure in words: both accuracies."""
    said = [f"{v['variant']} {v['acc']['mean']:.1f}/{v['student_acc']['mean']:.1f}" for v in numbers["variants"]]
    return f"ACC in percent of teacher/KD student with one part of AST switched: {', '.join(said) or 'none yet'}."


def numbers_trade(table: pd.DataFrame, exploring: bool = False) -> dict:
    """What each defence costs the teacher and the KD student, paired by seed, and what a thief can lose at all.

    Args:
        table: undistillable.csv.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.
    """
    panels, stakes = [], stakes_of(table, exploring=exploring)
    for (dataset, student), rows in trades(table, exploring=exploring).groupby(["dataset", "student"], sort=False):
        points = {
            str(teacher): {side: _by_seed(found, f"{side}_loss") for side in ("teacher", "student")}
            for teacher, found in rows.groupby("teacher", sort=False)
        }
        stake = stakes[(stakes["dataset"] == dataset) & (stakes["student"] == student)]
        about = {"dataset": str(dataset), "student": str(student), "points": _ordered(points)}
        panels.append({**about, "stake": _by_seed(stake, "stake")})
    return {"panels": panels}


@styled
def draw_trade(numbers: dict) -> Figure:
    """Cost to the teacher along x, damage to the student along y."""
    panels = numbers["panels"]
    if not panels:
        return empty("No defence has been measured on both sides yet.")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(2.7 * lines + 0.7)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _traded(ax, panel["points"])
        if panel["stake"]["n"]:
            ax.axhline(panel["stake"]["mean"], color=GREY, ls="--", lw=1.2, label=STAKE)
        ax.set_title(f"{name(panel['dataset'])}, {name(panel['student'])}")
    for ax in axes[len(panels) :]:
        ax.remove()
    teachers = dict.fromkeys(t for panel in panels for t in panel["points"])
    handles = [Line2D([], [], ls="", marker=m, color=c, ms=7, label=name(t)) for t in teachers for c, m in [_marked(t)]]
    handles += [line for line in axes[0].get_lines() if line.get_label() == STAKE]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    points = [panel["points"] for panel in panels]
    footer(
        figure,
        f"{interval_words(counts(points))} Against the normal teacher and its KD student, paired by seed. Shaded: at "
        f"most {CHEAP:g} points of the teacher's accuracy, {HARMFUL:g} or more of the student's. Where the dashed line "
        "is below 0, the normal teacher's student is worse than one trained alone: no theft to defend against.",
    )
    return figure


def _traded(ax: Axes, points: dict[str, dict]) -> None:
    for teacher, found in points.items():
        (colour, marker), x, y = _marked(teacher), found["teacher"], found["student"]
        for axis, each in (("xerr", x), ("yerr", y)):
            if each["low"] is not None:
                reach = [[each["mean"] - each["low"]], [each["high"] - each["mean"]]]
                ax.errorbar(x["mean"], y["mean"], **{axis: reach}, color=colour, capsize=3, linewidth=1.2)
        ax.plot(x["mean"], y["mean"], marker, ms=8, color=colour, zorder=3)
        if x["n"] > 1:
            ax.plot(x["values"], y["values"], marker, ms=3, color=colour, alpha=0.6, zorder=4)
    ax.margins(0.15)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    left, right, high = min(left, -0.5), max(right, CHEAP + 0.5), max(high, HARMFUL + 1)
    ax.fill_between([left, CHEAP], HARMFUL, high, color="#EDF5EE", zorder=0)
    ax.set(xlim=(left, right), ylim=(min(low, -0.5), high))
    ax.axhline(0, color=BLACK, lw=0.7)
    ax.set(xlabel="cost to the teacher (points of ACC)", ylabel="damage to the KD student,\nT = 4 (points of ACC)")


def alt_trade(numbers: dict) -> str:
    """The figure in words: both means."""
    said = [
        f"{name(p['student'])}, {name(t)}: {f['teacher']['mean']:.1f} and {f['student']['mean']:.1f}"
        for p in numbers["panels"]
        for t, f in p["points"].items()
    ]
    return f"Points of ACC that a defence costs the teacher and its KD student. {'; '.join(said) or 'None yet'}."
