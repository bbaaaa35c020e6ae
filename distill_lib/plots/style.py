"""The house style: colours that survive colour blindness and grey print, names, sizes, footers."""

import functools
import io
import re
import textwrap
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Okabe and Ito (2008): told apart with every common colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE, GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

WIDTH = 7.4  # inches: a notebook cell's width
DPI = 130
_LINE = 0.155  # inches, one line of a footer
_SMALL_PRINT = 7.8
_SMALL = "Small marks: single seeds"

STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",  # first of them DejaVu Sans, which comes with matplotlib
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # words stay words: to be searched, read aloud, and a third of the size
    "svg.hashsalt": "distill_lib",  # fixed element ids: the same bytes each time
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

# How tables' names are written in figures.
NAMES = {
    "badencoder": "BadEncoder",
    "poisoned_data": "poisoned data",
    "ctrl": "CTRL",
    "drupe": "DRUPE",
    "kd": "KD",
    "sp": "SP",
    "fitnet": "FitNet",
    "cc": "CC",
    "at": "AT",
    "afd": "AFD",
    "cosine": "cosine",
    "mimic": "MIMIC",
    "simclr": "SimCLR",
    "moco": "MoCo v2",
    "byol": "BYOL",
    "finetuned": "fine-tuned",
    "warmup": "warm-up",
    "finetune": "fine-tuning",
    "clean_share": "clean share alone",
    "bn_reset": "batch-norm reset",
    "clp": "CLP",
    "fine_pruning": "fine-pruning",
    "nad": "NAD",
    "clean_kd": "clean KD",
    "zskt": "ZSKT",
    "cmi": "CMI",
    "ood": "OOD",
    "sv": "SV",
    "sr": "SR",
    "abd": "ABD",
    "ast": "AST",
    "kd_t1": "KD, T = 1",
    "kd_t20": "KD, T = 20",
    "alone_part": "alone, few images",
    "kd_part": "KD, few images",
    "skeptical_alone": "skeptical, alone",
    "kd_other": "KD, other images",
    "hard_label": "hard labels",
    "data_free": "one picture",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "gtsrb": "GTSRB",
    "svhn": "SVHN",
    "mnist": "MNIST",
}


class HouseFigure(Figure):
    """A figure outside pyplot's global state: nothing to close, and a notebook shows it once."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def styled(draw: Callable[[dict], Figure]) -> Callable[[dict], Figure]:
    """Draw in the house style without changing matplotlib's settings, and lay the figure out once.

    A layout engine runs anew at each saving, from where the last one left off: the bytes would depend on
    what happened to the figure before.
    """

    @functools.wraps(draw)
    def wrapper(numbers: dict) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(numbers)
            for _ in range(2):  # the first pass changes tick labels, which the second makes room for
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return wrapper


def new_figure(height: float, width: float = WIDTH) -> HouseFigure:
    """An empty figure, sizes in inches."""
    return HouseFigure(figsize=(width, height), dpi=DPI, layout="constrained")


def footer(figure: Figure, text: str) -> None:
    """What marks and intervals mean, small, under the axes; the layout makes room for it."""
    width, height = figure.get_size_inches()
    text = re.sub(r"(?<=n) = (?=\d)| (?=%)", lambda gap: gap[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    lines = [line for part in text.split("\n") for line in _wrap(part, 0.97 * width)]
    room = (len(lines) * _LINE + 0.12) / height
    figure.get_layout_engine().set(rect=(0, room, 1, 1 - room))
    style = {"fontsize": _SMALL_PRINT, "color": "#444444", "va": "bottom", "linespacing": 1.3}
    figure.text(0.01, 0.06 / height, "\n".join(lines), **style)


def _wrap(text: str, width: float) -> list[str]:
    """Lines no wider than so many inches, by the font's own widths."""
    font, lines = FontProperties(size=_SMALL_PRINT), [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and text_to_path.get_text_width_height_descent(longer, font, False)[0] > 72 * width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def empty(text: str) -> Figure:
    """A figure that says what is not there yet."""
    figure = new_figure(1.4)
    figure.text(0.5, 0.5, "\n".join(textwrap.wrap(text, 90)), ha="center", va="center", color="#444444")
    return figure


def name(word: str) -> str:
    """How a name of the tables is written in figures; `at:released` is "AT (released)"."""
    head, _, variant = word.partition(":")
    shown = NAMES.get(head, head.replace("_", " "))
    return f"{shown} ({variant})" if variant else shown


def scope_title(scope: dict[str, str]) -> str:
    """`BadEncoder, CIFAR-10 → GTSRB, target 12`; `target per seed` where the attack finds it."""
    target = f", target {scope['target']}" if scope.get("target") else ""
    return f"{name(scope['attack'])}, {name(scope['pretrain'])} → {name(scope['downstream'])}{target}"


def seeds_words(counts: Sequence[int]) -> str:
    """`n = 2 seeds`, `n = 2 to 3 seeds`."""
    low, high = min(counts), max(counts)
    return f"n = {high} seed{'s' * (high > 1)}" if low == high else f"n = {low} to {high} seeds"


def interval_words(counts: Sequence[int], singles: bool = True) -> str:
    """What the marks of a figure of seeds mean, n included.

    Args:
        counts: The n of each mean drawn.
        singles: Whether single seeds are drawn beside an interval too.
    """
    if not counts:
        return ""
    if max(counts) == 1:
        return "Each mark is a single seed (n = 1): no interval."
    if max(counts) < 3:
        return f"{_SMALL}; large: their mean ({seeds_words(counts)}). Below n = 3 no interval is drawn."
    few = min(counts) < 3
    small = f"{_SMALL}; large: their mean" if singles else "Marks: mean over seeds"
    if few and not singles:
        small = f"{_SMALL} where n < 3; large: their mean"
    return f"{small} ({seeds_words(counts)}). Whiskers: 95 % t interval of the mean{', none below n = 3' * few}."


def beside(ax: Axes, place: float, text: str) -> None:
    """Write a row's number to the right of the axes, at the height `place` of the data."""
    ax.annotate(
        text,
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
    )


def root_scale(ax: Axes, axis: str) -> None:
    """A square-root scale for an ASR in percent on axis `x` or `y`: most defended encoders lie at a few percent."""
    functions = (lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * np.square(x))
    ax.set(**{f"{axis}lim": (-0.5, 115)})
    getattr(ax, f"set_{axis}scale")("function", functions=functions)
    ax.set(**{f"{axis}ticks": (0, 1, 5, 10, 25, 50, 100) if axis == "x" else (0, 5, 25, 50, 100)})
