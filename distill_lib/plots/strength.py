"""How strongly each loss is weighted: ACC and ASR along the weights that were tried, and the one chosen."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.plots.style import BLUE, GREY, VERMILION, empty, footer, interval_words, name, new_figure, styled
from distill_lib.plots.summary import counts, series

_COLUMNS = 4
RATES = {"acc": (BLUE, "o", "-", "ACC"), "asr": (VERMILION, "s", "--", "ASR")}


def numbers_strength(tuning: pd.DataFrame, chosen: dict[str, float], released: dict[str, float]) -> dict:
    """The curves to draw.

    Args:
        tuning: tuning.csv: `loss, weight, seed, acc, asr`, exploration seeds on validation images.
        chosen: Weight in use, by loss.
        released: Weight of the paper's release, by loss.

    Raises:
        ValueError: If the table holds a reported seed, whose images must not have chosen anything.
    """
    if len(tuning) and tuning["seed"].min() < EXPLORATION_SEEDS:
        raise ValueError(f"tuning.csv holds seed {tuning['seed'].min()}; allowed: {EXPLORATION_SEEDS} and above")
    panels = []
    for loss, rows in tuning.groupby("loss", sort=False):
        weights = sorted(set(rows["weight"]))
        found = [rows[rows["weight"] == weight].set_index("seed").sort_index() for weight in weights]
        rates = {rate: [series(each, rate) for each in found] for rate in RATES}
        marked = {"chosen": chosen.get(str(loss)), "released": released.get(str(loss))}
        panels.append({"loss": str(loss), "weights": [float(w) for w in weights], **rates, **marked})
    return {"panels": panels, "seeds": sorted({int(seed) for seed in tuning["seed"]})}


@styled
def draw_strength(numbers: dict) -> Figure:
    """One panel a loss."""
    panels = numbers["panels"]
    if not panels:
        return empty("No weight of a loss has been tuned in this profile yet.")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(1.85 * rows + 1.0)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for position, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _panel(ax, panel)
        if position % columns == 0:
            ax.set_ylabel("percent")
        if position + columns >= len(panels):
            ax.set_xlabel("weight of the loss")
    lines = [line for line in axes[0, 0].get_lines() if not line.get_label().startswith("_")]
    figure.legend(lines, [line.get_label() for line in lines], loc="outside upper center", ncols=4)
    seeds = ", ".join(map(str, numbers["seeds"]))
    footer(
        figure,
        f"Exploration seeds {seeds} on validation images: no test image and no reported seed. "
        f"{interval_words(counts(panels))} Grey line: the weight in use; the paper's release, where inside: dotted.",
    )
    return figure


def alt_strength(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        triples = zip(panel["weights"], panel["acc"], panel["asr"], strict=True)
        said = (f"{weight:g}: {acc['mean']:.1f}/{asr['mean']:.1f}" for weight, acc, asr in triples)
        parts.append(f"{name(panel['loss'])} {', '.join(said)}")
    start = "Mean ACC/ASR in percent by weight of each loss, on exploration seeds and validation images"
    return f"{start}. {'; '.join(parts) or 'Nothing tuned yet'}."


def _short(weight: float) -> str:
    return f"{weight / 1000:g}k" if weight >= 1000 else f"{weight:g}"


def _panel(ax: Axes, panel: dict) -> None:
    for rate, (colour, marker, dashes, label) in RATES.items():
        means = [each["mean"] for each in panel[rate]]
        style = {"color": colour, "marker": marker, "ls": dashes, "ms": 5.5, "lw": 1.2}
        ax.plot(panel["weights"], means, label=label, zorder=3, **style)
        for weight, found in zip(panel["weights"], panel[rate], strict=True):
            ax.plot([weight] * found["n"], found["values"], "_", ms=6, mew=1, color=colour, zorder=4)
            if found["low"] is not None:
                reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
                ax.errorbar(weight, found["mean"], yerr=reach, color=colour, capsize=2.5, linewidth=1, zorder=2)
    ax.set_xscale("log")
    low, high = min(panel["weights"]), max(panel["weights"])
    ax.set_xlim(low / 2, high * 2)
    ax.set_xticks(panel["weights"], [_short(weight) for weight in panel["weights"]])
    ax.minorticks_off()
    for key, dots in (("chosen", "-"), ("released", ":")):
        if panel[key] and low / 2 <= panel[key] <= high * 2:
            ax.axvline(panel[key], color=GREY, ls=dots, lw=3 if key == "chosen" else 1.5, alpha=0.5, zorder=1)
    ax.set_ylim(-4, 104)
    ax.set_title(name(panel["loss"]))
