"""What teachers that resist say: logits of one image, entropy and peaks, t-SNE of features against logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from distill_lib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
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
from distill_lib.plots.tsne import CLASSES, embed

TEACHER_MARKS = {"normal": (BLACK, "o"), "nasty": (VERMILION, "X"), "stingy": (BLUE, "s"), "ast": (GREEN, "D")}
MOST_CLASSES = 12  # bars of one image
MEASURES = {"warm_entropy_share": "entropy at T (% of the largest)", "peaks": "peaks of the logits"}
NEIGHBOURS = 10


def numbers_answers(logits: Mapping[str, ArrayLike], classes: Sequence[str], label: int) -> dict:
    """One image's logits under each teacher; a withheld one is None.

    Args:
        logits: Teacher -> (classes,), minus infinity where nothing is told.
        classes: Names.
        label: The true class, always among those shown; of many, the others are the normal teacher's largest.
    """
    first = np.asarray(next(iter(logits.values())), float)
    largest = [each for each in np.argsort(-first, kind="stable") if each != label]
    shown = sorted([int(label), *map(int, largest[: MOST_CLASSES - 1])])
    panels = [
        {"teacher": teacher, "logits": [float(v) if np.isfinite(v) else None for v in np.asarray(own, float)[shown]]}
        for teacher, own in logits.items()
    ]
    return {"panels": panels, "classes": [str(classes[each]) for each in shown], "label": shown.index(int(label))}


@styled
def draw_answers(numbers: dict) -> Figure:
    """One panel a teacher, one bar a class."""
    panels, classes, label = numbers["panels"], numbers["classes"], numbers["label"]
    if not panels:
        return empty("No teacher has been asked yet.")
    figure = new_figure(0.19 * len(classes) + 1.3)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    places = np.arange(len(classes))[::-1]
    for column, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for index, (place, value) in enumerate(zip(places, panel["logits"], strict=True)):
            if value is None:
                ax.plot(0, place, "x", ms=4, mew=1, color=GREY)
            else:
                ax.barh(place, value, 0.72, color=VERMILION if index == label else BLUE)
        ax.axvline(0, color=BLACK, lw=0.7)
        ax.set_yticks(places, classes if not column else [])
        ax.set(xlabel="logit", ylim=(-0.6, len(classes) - 0.4))
        ax.set_title(name(panel["teacher"]))
    withheld = any(value is None for panel in panels for value in panel["logits"])
    told = " Grey crosses: not told." if withheld else ""
    footer(figure, f"One test image, one seed. Orange: its true class, {classes[label]}.{told}")
    return figure


def alt_answers(numbers: dict) -> str:
    """The figure in words: each teacher's largest logits."""
    said = []
    for panel in numbers["panels"]:
        told = [(v, c) for v, c in zip(panel["logits"], numbers["classes"], strict=True) if v is not None]
        largest = ", ".join(f"{c} {v:.1f}" for v, c in sorted(told, reverse=True)[:3])
        said.append(f"{name(panel['teacher'])}: {largest}")
    return f"Logits of one test image under each teacher; the largest: {'; '.join(said) or 'none yet'}."


def numbers_peaks(taught: pd.DataFrame) -> dict:
    """Entropy and peaks of every teacher's answers, means over its test images.

    Args:
        taught: `teacher`, `seed`, and the measures `warm_entropy_share` (0 to 1) and `peaks`.
    """
    rows = taught.assign(warm_entropy_share=100 * taught["warm_entropy_share"])
    points = []
    for teacher, found in rows.groupby("teacher", sort=False):
        by_seed = found.set_index("seed").sort_index()
        points.append({"teacher": str(teacher), **{measure: series(by_seed, measure) for measure in MEASURES}})
    return {"points": points}


@styled
def draw_peaks(numbers: dict) -> Figure:
    """Entropy left, peaks right; one row a teacher."""
    points = numbers["points"]
    if not points:
        return empty("No teacher has been measured yet.")
    figure = new_figure(0.36 * len(points) + 1.2)
    axes = figure.subplots(1, 2)
    for column, (ax, (measure, label)) in enumerate(zip(axes, MEASURES.items(), strict=True)):
        places = list(range(len(points) - 1, -1, -1))
        for place, point in zip(places, points, strict=True):
            mark(ax, place, point[measure], *TEACHER_MARKS.get(point["teacher"], (GREY, "o")))
        ax.set_yticks(places, [name(point["teacher"]) for point in points] if not column else [])
        ax.set(xlabel=label, ylim=(-0.6, len(points) - 0.4))
        ax.set_xlim(left=0)
    words = "A peak: a class whose logit is more than half-way up from the median to the largest."
    footer(figure, f"{interval_words(counts(points))} Means over the test images. {words}")
    return figure


def alt_peaks(numbers: dict) -> str:
    """The figure in words: every mean."""
    said = [
        f"{name(p['teacher'])} {p['warm_entropy_share']['mean']:.0f} % and {p['peaks']['mean']:.2f}"
        for p in numbers["points"]
    ]
    return f"Entropy of the answers at the thief's T and number of peaks, by teacher: {'; '.join(said) or 'none yet'}."


def mark(ax: Axes, place: float, found: dict[str, Any], colour: str, marker: str) -> None:
    """A mean with its whiskers along x, and the single seeds."""
    if found["mean"] is None:
        return
    if found["low"] is not None:
        reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
        ax.errorbar(found["mean"], place, xerr=reach, color=colour, capsize=3, linewidth=1.3, zorder=2)
    ax.plot(found["mean"], place, marker, ms=7, color=colour, zorder=3)
    if found["n"] > 1:
        ax.plot(found["values"], [place] * found["n"], "|", ms=7, mew=1, color=colour, zorder=4)


def numbers_spaces(
    features: Mapping[str, ArrayLike], logits: Mapping[str, ArrayLike], labels: ArrayLike, classes: Sequence[str]
) -> dict:
    """t-SNE of the same images by features and by logits, one teacher a column.

    Args:
        features: Teacher -> (N, D).
        logits: Teacher -> (N, classes); for what is not told see `told`.
        labels: (N,) true classes.
        classes: Names.
    """
    labels, panels = np.asarray(labels), []
    kept = np.flatnonzero(np.isin(labels, np.unique(labels)[: len(CLASSES)]))
    for teacher in features:
        panel: dict[str, Any] = {"teacher": teacher}
        for space, rows in (("features", features[teacher]), ("logits", told(logits[teacher]))):
            rows = np.asarray(rows, float)[kept]
            points = embed(rows, rows[:0], rows[:0])["clean"]
            near = own_neighbours(rows, labels[kept])
            panel[space] = {"points": np.round(points.astype(float), 1).tolist(), "near": near}
        panels.append(panel)
    shown = {str(each): str(classes[each]) for each in np.unique(labels[kept])} if len(kept) else {}
    return {"panels": panels, "labels": labels[kept].tolist(), "classes": shown}


def told(logits: ArrayLike) -> np.ndarray:
    """Logits (N, classes) with what is not told, minus infinity, one below an image's least finite one.

    Not at the least itself: where two are told, the second would be lost among those that are not.
    """
    rows = np.asarray(logits, float)
    least = np.where(np.isfinite(rows), rows, np.inf).min(1, keepdims=True)
    return np.where(np.isfinite(rows), rows, least - 1)


def own_neighbours(rows: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the 10 nearest neighbours (by cosine, in the space itself) that are of the image's own class."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(rows) - 1)]
    return 100 * float((labels[nearest] == labels[:, None]).mean())


@styled
def draw_spaces(numbers: dict) -> Figure:
    """Features above, logits below."""
    panels, labels = numbers["panels"], np.array(numbers["labels"])
    if not panels:
        return empty("No teacher has been looked into yet.")
    marks = dict(zip(map(int, numbers["classes"]), CLASSES, strict=False))
    figure = new_figure(4.9)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for column, panel in enumerate(panels):
        for ax, space in zip(axes[:, column], ("features", "logits"), strict=True):
            _cloud(ax, np.array(panel[space]["points"]), labels, marks)
            ax.set_xlabel(f"{panel[space]['near']:.0f} %", fontsize=8.5)
            if not column:
                ax.set_ylabel(space)
        axes[0, column].set_title(name(panel["teacher"]), loc="center")
    handles = [
        Line2D([], [], ls="", marker=m, ms=5, mfc=c, mec="none", label=numbers["classes"][str(each)])
        for each, (c, m) in marks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=8, columnspacing=1.0, handletextpad=0.3)
    footer(
        figure,
        f"t-SNE of L2-normalised rows, one seed, the same {len(labels)} test images in each panel; axes have no unit. "
        f"Below each: share of an image's {NEIGHBOURS} nearest neighbours in the space itself that are of its class; "
        "single measurements, no interval.",
    )
    return figure


def alt_spaces(numbers: dict) -> str:
    """The figure in words: the shares, which were not read off the picture."""
    said = [
        f"{name(p['teacher'])} {p['features']['near']:.0f} % by features, {p['logits']['near']:.0f} % by logits"
        for p in numbers["panels"]
    ]
    return f"t-SNE of features and of logits. Nearest neighbours of the image's own class: {'; '.join(said) or 'none'}."


def _cloud(ax: Axes, points: np.ndarray, labels: np.ndarray, marks: dict[int, tuple[str, str]]) -> None:
    for label, (colour, marker) in marks.items():
        ax.scatter(*points[labels == label].T, s=9, c=colour, marker=marker, linewidths=0, alpha=0.8)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#BBBBBB")
    ax.set_box_aspect(1)
