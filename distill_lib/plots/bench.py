"""How fast the study's steps are: against the papers' loops, and whether a view costs the same on larger sets."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from distill_lib.plots.style import BLUE, GREY, VERMILION, beside, empty, footer, new_figure, styled

# The loops, in the order drawn; what each ratio is about.
LOOPS = {
    "simclr_step": "SimCLR step",
    "simclr_step_float32": "SimCLR step in float32",
    "augmentation": "augmentation alone",
    "badencoder_step": "BadEncoder step",
    "distillation_step": "distillation step",
    "head_training": "head training",
    "head_training_cached": "head training, both cached",
    "ood_step": "OOD step",
    "ood_step_fixed": "OOD step, teacher asked once",
    "zskt_turn": "ZSKT turn",
    "cmi_round": "CMI round",
}
ALL_CORES = "_all_cores"
LIMITS = {
    "step_over_bare": "whole step over the encoder's bare forward and backward",
    "matmul_share": "share of the measured matmul rate",
}
_TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def numbers_bench(report: dict) -> dict:
    """The ratios and their spread.

    Args:
        report: As `python -m distill_lib bench` writes it: `hardware`, `ratios`, `flatness`.
    """
    keys = ("name", "ratio", "low", "high", "pairs")
    rows = {row["name"]: {key: row[key] for key in keys} for row in report["ratios"]}
    about = report["hardware"]
    many = about["cores"] > 2  # with two cores, both rows are the same pairs
    loops = [name + end for name in LOOPS for end in ("", ALL_CORES)[: 1 + many] if name + end in rows]
    return {
        "hardware": f"{about.get('gpu') or about['cpu']}, {about['cores']} cores, torch {about['torch']}",
        "loops": [rows[name] for name in loops],
        "limits": [rows[name] for name in LIMITS if name in rows],
        "flatness": report["flatness"],
    }


@styled
def draw_bench(numbers: dict) -> Figure:
    """Left: the papers' loop over ours. Right: cost of a view by the number of images."""
    loops, flat = numbers["loops"], numbers["flatness"]
    if not loops:
        return empty("Nothing has been timed yet.")
    figure = new_figure(0.27 * len(loops) + 1.9)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.7, 1)})
    _loops(left, loops)
    _flatness(right, flat)
    pairs = [row["pairs"] for row in loops]
    marks = f"Marks: median of n = {min(pairs)} interleaved pairs; whiskers: their quartiles (the right: of rounds)."
    limits = "; ".join(
        f"{LIMITS[row['name']]}: {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in numbers["limits"]
    )
    footer(figure, f"{numbers['hardware']}. {marks} {limits[:1].upper()}{limits[1:]}{'.' * bool(limits)}")
    return figure


def alt_bench(numbers: dict) -> str:
    """The figure in words: every ratio."""
    loops = ", ".join(f"{_label(row['name'])} {row['ratio']:.1f}" for row in numbers["loops"])
    flat = ", ".join(f"{row['images']:,} images {row['microseconds']:.0f}" for row in numbers["flatness"])
    return (
        f"Times that the study's steps are faster than the papers' loops on {numbers['hardware']}: {loops or 'none'}. "
        f"Microseconds a view: {flat or 'none'}."
    )


def _label(name: str) -> str:
    everything = name.endswith(ALL_CORES)
    return LOOPS[name.removesuffix(ALL_CORES)] + ", all cores" * everything


def _loops(ax: Axes, rows: list[dict]) -> None:
    places = list(range(len(rows) - 1, -1, -1))
    for place, row in zip(places, rows, strict=True):
        every = row["name"].endswith(ALL_CORES)
        around = [[row["ratio"] - row["low"]], [row["high"] - row["ratio"]]]
        face = "white" if every else BLUE
        style = {"color": BLUE, "markerfacecolor": face, "capsize": 3, "linewidth": 1.4, "markersize": 6.5}
        ax.errorbar(row["ratio"], place, xerr=around, fmt="o", **style)
        beside(ax, place, f"{row['ratio']:.1f}×")
    ax.axvline(1, color=VERMILION, linestyle=(0, (5, 2)), linewidth=1.3, zorder=1)
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    ax.set_xscale("log")
    ax.set_xlim(min(0.8, low / 1.2), max(2.4, high * 1.2))
    ax.xaxis.set_major_locator(FixedLocator(_TICKS))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(places, [_label(row["name"]) for row in rows])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("times faster than the papers' loop (dashed: 1)")
    ax.set_title("Against the papers' loops")


def _flatness(ax: Axes, rows: list[dict]) -> None:
    x, y = [row["images"] for row in rows], [row["microseconds"] for row in rows]
    around = [[row["microseconds"] - row["low"] for row in rows], [row["high"] - row["microseconds"] for row in rows]]
    ax.errorbar(x, y, yerr=around, fmt="s-", color=BLUE, ecolor=GREY, capsize=3, linewidth=1.4, markersize=5.5)
    ax.set_xscale("log")
    ax.set_xticks(x, [f"{count:,}" for count in x])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(0, 1.3 * max((row["high"] for row in rows), default=1))
    ax.margins(x=0.15)
    ax.set_xlabel("images in the set")
    ax.set_ylabel("cost of a view in SimCLR (µs)")
    ax.set_title("By the size of the set")
