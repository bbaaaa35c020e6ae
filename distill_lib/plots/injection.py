"""How a backdoor is planted, over the steps: BadEncoder's three loss terms, or what an attack on data leaves to see."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.plots.style import BLUE, GREEN, VERMILION, empty, footer, new_figure, styled

# term -> colour, dashes, what it says
TERMS = {
    "L0": (VERMILION, "-", "triggered → reference"),
    "L1": (BLUE, (0, (5, 2)), "reference stays"),
    "L2": (GREEN, (0, (1.5, 1.2)), "clean images stay"),
    "triggered": (VERMILION, "-", "→ poisoned class"),
    "untriggered": (GREEN, (0, (1.5, 1.2)), "→ poisoned class"),
}
_COLUMNS = 3


def numbers_injection(logs: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]]) -> dict:
    """The curves to draw.

    Args:
        logs: Panel title -> seed -> the training's log (rows with `step` and the terms).
    """
    panels = []
    for title, seeds in logs.items():
        lines = [_line(term, int(seed), log) for seed, log in seeds.items() for term in TERMS]
        lines = [line for line in lines if line["step"]]
        if lines:
            panels.append({"title": str(title), "lines": lines})
    return {"panels": panels}


def _line(term: str, seed: int, log: Sequence[Mapping[str, float]]) -> dict:
    """A term's values where it was noted: a training that went on from before the note has gaps."""
    rows = [row for row in log if not math.isnan(float(row.get(term, math.nan)))]
    steps, values = [int(row["step"]) for row in rows], [float(row[term]) for row in rows]
    return {"term": term, "seed": seed, "step": steps, "value": values}


@styled
def draw_injection(numbers: dict) -> Figure:
    """One panel an attack, one line a term and seed."""
    panels = numbers["panels"]
    if not panels:
        return empty("No injection has been logged yet.")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(2.35 * rows + 0.75)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for position, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _panel(ax, panel)
        if position % columns == 0:
            ax.set_ylabel("− mean cosine")
    lines = [line for ax in axes.flat for line in ax.get_lines()]
    drawn = {line.get_label(): line for line in lines if line.get_label() in TERMS}
    figure.legend(drawn.values(), map(_words, drawn), loc="outside upper center", ncols=min(3, len(drawn)))
    seeds = {len({line["seed"] for line in panel["lines"]}) for panel in panels}
    many = f"n = {max(seeds)} seeds" if max(seeds) > 1 else "n = 1 seed"
    footer(figure, f"One line a seed ({many}). −1: the features point the same way; no interval is drawn.")
    return figure


def alt_injection(numbers: dict) -> str:
    """The figure in words, with the last values."""
    parts = []
    for panel in numbers["panels"]:
        seed = panel["lines"][0]["seed"]
        lines = [line for line in panel["lines"] if line["seed"] == seed]
        said = ", ".join(f"{line['term']} {line['value'][0]:.2f} to {line['value'][-1]:.2f}" for line in lines)
        parts.append(f"{panel['title']}: {said} (seed {seed})")
    return "Lines of minus mean cosines over the steps, first to last value of one seed. " + "; ".join(parts)


def _panel(ax: Axes, panel: dict) -> None:
    several = len({line["seed"] for line in panel["lines"]}) > 1
    for line in panel["lines"]:
        colour, dashes, _ = TERMS[line["term"]]
        ax.plot(
            line["step"],
            line["value"],
            color=colour,
            linestyle=dashes,
            linewidth=1.2 if several else 1.8,
            alpha=0.85 if several else 1,
            label=line["term"],
        )
    ax.axhline(-1, color="#999999", linewidth=0.7)
    ax.set_title(panel["title"])
    ax.set_xlabel("step")
    ax.margins(x=0.02)


def _words(term: str) -> str:
    return f"{term}: {TERMS[term][2]}"
