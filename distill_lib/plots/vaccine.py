"""The Shuffling Vaccine's score on clean and on triggered images: its distribution and its ROC."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distill_lib.plots.style import BLUE, GREY, VERMILION, empty, footer, name, new_figure, styled

_BINS, _POINTS = 30, 60
_AREAS = ("auc", "auc_usual")


def numbers_vaccine(
    scores: Mapping[str, Mapping[int, Mapping[str, Any]]], published: float, convolutions: int, usual: int
) -> dict:
    """Histogram of the first seed, and every seed's ROC.

    Args:
        scores: Attack -> seed -> `clean` and `triggered` scores (N,), log10 KL(T || T~), `auc`, and `auc_usual`, that
            of as many shuffled convolutions as published.
        published: The paper's AUC.
        convolutions: How many are shuffled here.
        usual: How many the paper shuffles.
    """
    panels = [_panel(attack, seeds) for attack, seeds in scores.items()]
    return {"published": published, "panels": panels, "convolutions": convolutions, "usual": usual}


def _panel(attack: str, seeds: Mapping[int, Mapping[str, Any]]) -> dict:
    first = next(iter(seeds.values()))
    both = {which: np.asarray(first[which], float) for which in ("clean", "triggered")}
    edges = np.histogram_bin_edges(np.concatenate(list(both.values())), _BINS)
    shares = {which: np.histogram(each, edges)[0] / len(each) for which, each in both.items()}
    curves = [{"seed": int(seed), **{k: float(each[k]) for k in _AREAS}, **_roc(each)} for seed, each in seeds.items()]
    return {"attack": attack, "edges": edges.tolist(), **{k: v.tolist() for k, v in shares.items()}, "curves": curves}


def _roc(scores: Mapping[str, Any]) -> dict[str, list[float]]:
    """Shares of clean and of triggered images below each threshold."""
    clean, triggered = (np.sort(np.asarray(scores[which], float)) for which in ("clean", "triggered"))
    levels = np.quantile(np.concatenate([clean, triggered]), np.linspace(0, 1, _POINTS))
    hits = {"false": np.searchsorted(clean, levels, "right"), "true": np.searchsorted(triggered, levels, "right")}
    return {
        "false": [0.0, *(hits["false"] / len(clean)).tolist()],
        "true": [0.0, *(hits["true"] / len(triggered)).tolist()],
    }


@styled
def draw_vaccine(numbers: dict) -> Figure:
    """One row an attack: the scores left, the ROC right."""
    panels = numbers["panels"]
    if not panels:
        return empty("No vaccine has been scored yet.")
    figure = new_figure(2.5 * len(panels) + 0.5)
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for (left, right), panel in zip(axes, panels, strict=True):
        for which, colour, hatch in (("clean", BLUE, ""), ("triggered", VERMILION, "//")):
            left.stairs(panel[which], panel["edges"], fill=True, alpha=0.45, color=colour, hatch=hatch, label=which)
        left.set(title=name(panel["attack"]), xlabel="score: log10 KL(teacher || shuffled)", ylabel="share of images")
        left.legend()
        for curve in panel["curves"]:
            right.plot(curve["false"], curve["true"], color=VERMILION, lw=1.2)
        right.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
        right.set(xlabel="clean images flagged (share)", ylabel="triggered images flagged (share)")
        right.text(0.97, 0.06, _areas(panel, numbers), ha="right", fontsize=8.5)
    seeds = max(len(panel["curves"]) for panel in panels)
    footer(
        figure,
        "Test images that are not of the target class. Low scores are suspicious. Histogram: first seed; ROC: one line "
        f"a seed (n = {seeds}); no interval. Dotted: chance. The published AUC is of full-size networks and of clean "
        "images of every class.",
    )
    return figure


def _areas(panel: dict, numbers: dict) -> str:
    """The areas under the ROC, those of the published number of shuffled convolutions too."""
    said = {key: ", ".join(f"{each[key]:.3f}" for each in panel["curves"] if key in each) for key in _AREAS}
    here, usual = numbers.get("convolutions"), numbers.get("usual")
    lines = [f"AUC {said['auc']}" + (f" (shuffled: {here})" if here else "")]
    lines += [f"{said['auc_usual']} ({usual})"] if here != usual else []
    return "\n".join([*lines, f"published {numbers['published']:.3f}" + (f" ({usual})" if usual else "")])


def alt_vaccine(numbers: dict) -> str:
    """The figure in words: every AUC."""
    parts = []
    for panel in numbers["panels"]:
        *ours, _ = _areas(panel, numbers).splitlines()
        parts.append(f"{panel['attack']} {', '.join(ours).removeprefix('AUC ')}")
    start = "Histograms of the vaccine's score on clean and triggered images and its ROC; area under it by seed"
    return f"{start}: {'; '.join(parts) or 'none yet'}; published {numbers['published']:.3f}."
