"""What the attack does to the embedding: t-SNE of one encoder a panel."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

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
    new_figure,
    styled,
)

PANELS = {"clean": "before the attack", "attacked": "after the attack", "distilled": "after distillation"}
# Other classes: colour and shape. The target class is a vermilion square of its own.
CLASSES = [
    (BLUE, "o"),
    (SKY, "^"),
    (GREEN, "v"),
    (PURPLE, "D"),
    (ORANGE, "p"),
    (GREY, "<"),
    ("#332288", ">"),
    ("#882255", "h"),
]
MOST_CLASSES = len(CLASSES) + 1
_NEIGHBOURS = 10


def choose_rows(
    labels: ArrayLike, target: int, classes: int = 8, per_class: int = 30, triggered: int = 100, seed: int = 0
) -> dict[str, np.ndarray]:
    """A fixed sample of a test set, the same for every encoder.

    Args:
        labels: (N,) true classes.
        target: Target class; always among those shown.
        classes: Classes shown; beside the target the most frequent ones.
        per_class: Clean images of each.
        triggered: Images of other classes that get the trigger; drawn from the classes shown.
        seed: Of the sample.

    Returns:
        `clean` and `triggered`: row numbers.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    found, counts = np.unique(labels[labels != target], return_counts=True)
    # Equal counts: the lower class number first.
    others = found[np.argsort(-counts, kind="stable")][: min(classes, MOST_CLASSES) - 1]

    def draw(rows: np.ndarray, most: int) -> np.ndarray:
        return np.sort(rng.permutation(rows)[:most])

    clean = [draw(np.flatnonzero(labels == c), per_class) for c in (target, *np.sort(others))]
    return {
        "clean": np.concatenate(clean),
        "triggered": draw(np.flatnonzero(np.isin(labels, others)), triggered),
    }


def embed(clean: ArrayLike, triggered: ArrayLike, reference: ArrayLike, seed: int = 0) -> dict[str, np.ndarray]:
    """One t-SNE of clean images, triggered images and reference inputs together (van der Maaten, 2008).

    Features are L2-normalised first, as the downstream head sees them.

    Args:
        clean: (N, D) features.
        triggered: (M, D).
        reference: (R, D).
        seed: Of the start.

    Returns:
        `clean` (N, 2), `triggered` (M, 2), `reference` (R, 2).
    """
    from sklearn.manifold import TSNE  # a second to import, and not needed to redraw

    parts = [np.asarray(part, dtype=np.float64) for part in (clean, triggered, reference)]
    rows = _unit(np.concatenate(parts))
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(rows)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return dict(zip(("clean", "triggered", "reference"), np.split(points, ends), strict=True))


def share_near_target(clean: ArrayLike, labels: ArrayLike, triggered: ArrayLike, target: int) -> float:
    """Percent of triggered images most of whose 10 nearest clean neighbours (by cosine) are of the target.

    Measured in the encoder's own space: distances in a t-SNE view mean little.
    """
    neighbours = np.argsort(-(_unit(triggered) @ _unit(clean).T), axis=1, kind="stable")[:, :_NEIGHBOURS]
    return 100.0 * float(((np.asarray(labels)[neighbours] == target).mean(1) > 0.5).mean())


def numbers_tsne(
    panels: Mapping[str, Mapping[str, Any]], target: int, classes: Mapping[int, str], about: str = ""
) -> dict:
    """The points to draw.

    Args:
        panels: `clean`, `attacked`, `distilled` -> the features `clean` (N, D), `triggered` (M, D),
            `reference` (R, D) of that encoder and `labels` (N,) of the clean images; optionally `seed`. The
            same images in all panels.
        target: Target class.
        classes: Class names by number.
        about: What was attacked, for the footer.
    """
    drawn = {}
    for panel, f in panels.items():
        points = embed(f["clean"], f["triggered"], f["reference"], f.get("seed", 0))
        drawn[panel] = {key: np.round(xy.astype(float), 2).tolist() for key, xy in points.items()}
        drawn[panel]["labels"] = [int(label) for label in f["labels"]]
        drawn[panel]["share_near_target"] = share_near_target(f["clean"], f["labels"], f["triggered"], target)
    shown = sorted({label for panel in drawn.values() for label in panel["labels"]})
    names = {str(label): str(classes[label]) for label in shown}
    return {"panels": drawn, "target": int(target), "classes": names, "about": about}


@styled
def draw_tsne(numbers: dict) -> Figure:
    """Three panels in one row; a class has the same mark in each."""
    panels, target = numbers["panels"], numbers["target"]
    if not panels:
        return empty("No embeddings to draw yet.")
    figure = new_figure(3.95)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    others = [label for label in sorted(map(int, numbers["classes"])) if label != target]
    marks = dict(zip(others, CLASSES, strict=False))
    for ax, (panel, points) in zip(axes, panels.items(), strict=True):
        _panel(ax, points, marks, target)
        ax.set_title(PANELS.get(panel, panel), loc="center")
        ax.set_xlabel(
            f"{points['share_near_target']:.0f} % of triggered images\nlie among the target class",
            fontsize=8.5,
        )
    figure.legend(
        handles=_legend(numbers, marks),
        loc="outside upper center",
        ncols=5,
        columnspacing=1.2,
        handletextpad=0.4,
    )
    first, about = next(iter(panels.values())), f"{numbers['about']}. " if numbers["about"] else ""
    footer(
        figure,
        f"{about}t-SNE of L2-normalised features, one seed, the same {len(first['clean'])} clean images and "
        f"{len(first['triggered'])} triggered images of other classes in each panel; axes have no "
        "unit, panels no common one. Below: share of triggered images most of whose "
        f"{_NEIGHBOURS} nearest clean neighbours in the encoder's own space are of the target class; single "
        "measurements, no interval.",
    )
    return figure


def alt_tsne(numbers: dict) -> str:
    """The figure in words: the shares, which were not read off the picture."""
    target = numbers["classes"].get(str(numbers["target"]), numbers["target"])
    parts = [f"{PANELS.get(p, p)} {v['share_near_target']:.0f} %" for p, v in numbers["panels"].items()]
    return (
        "t-SNE views of the features. Share of triggered images that lie among clean images of the "
        f"target class ({target}): {', '.join(parts)}."
    )


def _unit(features: ArrayLike) -> np.ndarray:
    rows = np.asarray(features, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _panel(ax: Axes, points: dict, marks: dict[int, tuple[str, str]], target: int) -> None:
    clean, labels = np.array(points["clean"]), np.array(points["labels"])
    for label, (colour, marker) in marks.items():
        ax.scatter(*clean[labels == label].T, s=11, c=colour, marker=marker, linewidths=0, alpha=0.75)
    ax.scatter(*clean[labels == target].T, s=20, c=VERMILION, marker="s", edgecolors=BLACK, linewidths=0.5, zorder=3)
    ax.scatter(*np.array(points["triggered"]).T, s=16, c=BLACK, marker="x", linewidths=0.9, zorder=4)
    ax.scatter(
        *np.array(points["reference"]).T,
        s=190,
        c="white",
        marker="*",
        edgecolors=BLACK,
        linewidths=1.2,
        zorder=5,
    )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#BBBBBB")
    ax.set_box_aspect(1)


def _legend(numbers: dict, marks: dict[int, tuple[str, str]]) -> list[Line2D]:
    def mark(label, colour, marker, size, edge="none", width=0.0):
        return Line2D([], [], ls="", marker=marker, ms=size, mfc=colour, mec=edge, mew=width, label=label)

    names = numbers["classes"]
    target = names.get(str(numbers["target"]), numbers["target"])
    special = [
        mark(f"{target} (target)", VERMILION, "s", 5.5, BLACK, 0.6),
        mark("triggered", BLACK, "x", 5.5, BLACK, 1.2),
        mark("reference", "white", "*", 12, BLACK, 1.1),
    ]
    return [*special, *(mark(names[str(label)], c, m, 5) for label, (c, m) in marks.items())]
