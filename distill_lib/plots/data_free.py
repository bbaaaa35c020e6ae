"""Data-free students: rates over training, along the bridge, and under each variant of the defence."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    styled,
)
from distill_lib.plots.summary import counts, series

RATES = {"acc": "ACC (%)", "asr": "ASR, non-target images (%)"}
MARKS = {
    "clean_kd": (BLUE, "o", "-"), "ood": (VERMILION, "X", "--"), "zskt": (PURPLE, "v", ":"), "cmi": (GREEN, "P", "-."),
    "sv": (SKY, "^", "-."), "sr": (ORANGE, "s", ":"), "abd": (BLACK, "D", "-"),
}  # fmt: skip
VARIANTS = ("none", "sv", "sr", "abd")
_MARKERS = 12  # on a line, about


def _words(row: dict | pd.Series) -> str:
    return name(row["method"]) if row["defence"] == "none" else f"{name(row['method'])} + {name(row['defence'])}"


def numbers_asr_over_training(curves: pd.DataFrame) -> dict:
    """Means over seeds at each point.

    Args:
        curves: `attack`, `method`, `defence`, `seed`, `step` and the rates, one row a point.
    """
    panels = []
    for attack, rows in curves.groupby("attack", sort=False):
        lines = []
        for (method, defence), found in rows.groupby(["method", "defence"], sort=False):
            share = (100 * found["step"] / found["step"].max()).round().astype(int)
            points = found.assign(share=share).groupby("share")[["acc", "asr"]].mean()
            line = {"method": str(method), "defence": str(defence), "seeds": sorted(map(int, set(found["seed"])))}
            rates = {rate: [float(value) for value in points[rate]] for rate in ("acc", "asr")}
            lines.append({**line, "share": [int(each) for each in points.index], **rates})
        panels.append({"attack": str(attack), "lines": lines})
    return {"panels": panels}


@styled
def draw_asr_over_training(numbers: dict) -> Figure:
    """One row an attack: accuracy left, attack success right."""
    panels = numbers["panels"]
    if not panels:
        return empty("No student has been trained yet.")
    figure = new_figure(2.4 * len(panels) + 0.9)
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for line, panel in zip(axes, panels, strict=True):
        several = len({each["method"] for each in panel["lines"] if each["defence"] != "none"}) > 1
        for ax, rate in zip(line, RATES, strict=True):
            for each in panel["lines"]:
                ax.plot(each["share"], each[rate], **_style(each, several))
            ax.set(xlabel="share of the training (%)", ylabel=RATES[rate], ylim=(-4, 104))
        line[0].set_title(name(panel["attack"]))
    handles = {h.get_label(): h for ax in axes[:, 0] for h in ax.get_lines()}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=min(4, len(handles)))
    seeds = {len(each["seeds"]) for panel in panels for each in panel["lines"]}
    many = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    footer(figure, f"Means over seeds (n = {many}) on a fixed sample of the test images; no interval is drawn.")
    return figure


def _style(line: dict, several: bool) -> dict[str, Any]:
    """Colour by method, or by defence where one method alone is defended; marker and dashes by defence then."""
    defended = line["defence"] != "none"
    own = MARKS[line["defence"] if defended else line["method"]]
    colour = MARKS[line["method"]][0] if several else own[0]
    apart = max(1, len(line["share"]) // _MARKERS)  # a marker a point would hide a long curve
    words = {"ms": 4, "lw": 1.2, "label": _words(line)}
    return {"color": colour, "marker": own[1], "ls": own[2], "markevery": apart, **words}


def alt_asr_over_training(numbers: dict) -> str:
    """The figure in words: every line's last ACC/ASR."""
    said = [
        f"{p['attack']}, {_words(e)} {e['acc'][-1]:.1f}/{e['asr'][-1]:.1f}"
        for p in numbers["panels"]
        for e in p["lines"]
    ]
    return f"ACC and ASR over the training of students; at its end, in percent: {'; '.join(said) or 'none yet'}."


def numbers_bridge(bridge: pd.DataFrame, teachers: pd.DataFrame, encoders: pd.DataFrame) -> dict:
    """ACC and ASR along the bridge.

    Args:
        bridge: Students of the supervised teachers: `attack`, `place`, `data`, `seed`, `acc`, `asr`.
        teachers: Their teachers' rows.
        encoders: Students of the self-supervised encoder, and (place -1) the encoder itself.
    """
    panels = []
    for attack, rows in bridge.groupby("attack", sort=False):
        own = teachers[(teachers["attack"] == attack) & teachers["seed"].isin(rows["seed"])]
        panels.append(_along(f"supervised teacher, {name(str(attack))}", rows, own))
    for attack, rows in encoders.groupby("attack", sort=False):
        title = f"self-supervised encoder, {name(str(attack))}"
        panels.append(_along(title, rows[rows["place"] >= 0], rows[rows["place"] < 0]))
    return {"panels": panels}


def _along(title: str, rows: pd.DataFrame, source: pd.DataFrame) -> dict[str, Any]:
    rows = shared_seeds(rows, ["place"])
    points = []
    for _, found in rows.groupby("place"):
        by_seed = found.set_index("seed").sort_index()
        points.append({"data": str(found["data"].iloc[0]), **{rate: series(by_seed, rate) for rate in RATES}})
    start = source.set_index("seed").sort_index()
    return {"title": title, "points": points, "source": {rate: series(start, rate) for rate in RATES}}


@styled
def draw_bridge(numbers: dict) -> Figure:
    """One panel a poisoned source."""
    panels = [panel for panel in numbers["panels"] if panel["points"]]
    if not panels:
        return empty("No student has been distilled along the bridge yet.")
    figure = new_figure(2.5 * len(panels) + 0.7)
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        places = range(len(panel["points"]))
        for rate, colour, marker, dashes in (("acc", BLUE, "o", "-"), ("asr", VERMILION, "X", "--")):
            found = [point[rate] for point in panel["points"]]
            label = RATES[rate].split(" ")[0].rstrip(",")
            ax.plot(places, [e["mean"] for e in found], color=colour, marker=marker, ls=dashes, ms=7, label=label)
            for place, each in zip(places, found, strict=True):
                _spread(ax, place, each, colour)
            if panel["source"][rate]["n"]:
                ax.axhline(panel["source"][rate]["mean"], color=colour, ls=dashes, lw=0.8, alpha=0.5)
        ax.set_xticks(list(places), [point["data"].replace(" (", "\n(") for point in panel["points"]])
        ax.set(ylabel="percent", ylim=(-4, 106), xlim=(-0.4, len(panel["points"]) - 0.6))
        ax.set_title(panel["title"])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    footer(
        figure,
        f"{interval_words(counts(panels))} Thin lines: the poisoned teacher or encoder itself. The axis is an order, "
        "from the teacher's own data to none, no scale. A student whose ACC is at chance learnt nothing, so its ASR "
        "says nothing about its data.",
    )
    return figure


def alt_bridge(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        said = (f"{p['data']} {p['acc']['mean']:.1f}/{p['asr']['mean']:.1f}" for p in panel["points"])
        parts.append(f"{panel['title']}: {', '.join(said)}")
    return f"ACC/ASR in percent of students from clean data to none. {'; '.join(parts) or 'None yet'}."


def numbers_abd(table: pd.DataFrame, published: dict[str, dict[str, list[float]]]) -> dict:
    """Every variant of the defence, by attack and method, on the seeds that all variants have.

    Args:
        table: datafree.csv.
        published: Attack -> method -> variant -> published ACC and ASR.
    """
    rows = table[(table["stage"] == "student") & (pd.to_numeric(table["seed"]) < EXPLORATION_SEEDS)]
    rows = rows.astype({"acc": float, "asr": float, "seed": int})
    panels = []
    for (attack, method), found in rows.groupby(["attack", "method"], sort=False):
        if set(found["defence"]) <= {"none"}:
            continue
        found = shared_seeds(found, ["defence"])
        points = []
        for variant in (each for each in VARIANTS if each in set(found["defence"])):
            by_seed = found[found["defence"] == variant].set_index("seed").sort_index()
            points.append({"defence": variant, **{rate: series(by_seed, rate) for rate in RATES}})
        known = published.get(str(attack), {}).get(str(method), {})
        panels.append({"attack": str(attack), "method": str(method), "points": points, "published": known})
    return {"panels": [panel for panel in panels if panel["points"]]}


@styled
def draw_abd(numbers: dict) -> Figure:
    """One row an attack and method: accuracy left, attack success right; the published values beside."""
    panels = numbers["panels"]
    if not panels:
        return empty("No variant of ABD has been measured yet.")
    figure = new_figure(1.75 * len(panels) + 0.8)
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for line, panel in zip(axes, panels, strict=True):
        places = list(range(len(panel["points"]) - 1, -1, -1))
        for column, (ax, rate) in enumerate(zip(line, RATES, strict=True)):
            for place, point in zip(places, panel["points"], strict=True):
                _variant(ax, place, point[rate])
                if point["defence"] in panel["published"]:
                    ax.plot(panel["published"][point["defence"]][column], place, "s", mfc="none", mec=GREY, ms=7)
            ax.set_yticks(places, [point["defence"] for point in panel["points"]] if not column else [])
            ax.set(xlabel=RATES[rate], ylim=(-0.6, len(places) - 0.4), xlim=(-4, 104))
        line[0].set_title(f"{name(panel['attack'])}, {name(panel['method'])}")
    footer(
        figure,
        f"{interval_words(counts([panel['points'] for panel in panels]))} Intervals end at 0 and 100. Grey squares: "
        "published, on CIFAR-10 with full-size networks and schedules; not comparable in level.",
    )
    return figure


def alt_abd(numbers: dict) -> str:
    """The figure in words: every mean."""
    parts = []
    for panel in numbers["panels"]:
        said = (f"{p['defence']} {p['acc']['mean']:.1f}/{p['asr']['mean']:.1f}" for p in panel["points"])
        parts.append(f"{panel['attack']}, {panel['method']}: {', '.join(said)}")
    return f"ACC/ASR in percent under each variant of ABD. {'; '.join(parts) or 'None yet'}."


def _variant(ax: Axes, place: int, found: dict) -> None:
    if found["low"] is not None:
        reach = [[found["mean"] - max(0, found["low"])], [min(100, found["high"]) - found["mean"]]]
        ax.errorbar(found["mean"], place, xerr=reach, color=BLUE, capsize=3, linewidth=1.3, zorder=2)
    ax.plot(found["mean"], place, "o", ms=7, color=BLUE, zorder=3)
    ax.plot(found["values"], [place] * found["n"], "|", ms=7, mew=1, color=BLACK, zorder=4)


def _spread(ax: Axes, place: int, found: dict, colour: str) -> None:
    """Whiskers from 3 seeds on; single seeds."""
    if found["low"] is not None:
        reach = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
        ax.errorbar(place, found["mean"], yerr=reach, color=colour, capsize=2.5, linewidth=1, zorder=2)
    if found["n"] > 1:
        ax.plot([place] * found["n"], found["values"], "_", ms=6, mew=1, color=colour, zorder=4)
