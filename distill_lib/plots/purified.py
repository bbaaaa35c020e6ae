"""An encoder before and after its repair: how each trigger pulls different images together, and where it looks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from distill_lib.plots.pictures import numbers_synthetic
from distill_lib.plots.style import BLUE, GREY, VERMILION, empty, footer, new_figure, styled

_ROW = 0.2  # inches a trigger
_SIDE = 96  # pixels of a picture, at most
_HEAT = 0.65  # share of the attention's colour over the picture
MARKS = {"before": (VERMILION, "s"), "after": (BLUE, "o")}


def numbers_sensitivity(triggers: Mapping[str, Mapping[str, Mapping[str, float]]], images: int) -> dict:
    """What to draw of a bank of triggers, strongest pull first.

    Args:
        triggers: By trigger and by `before` and `after`: `clean` and `triggered`, mean cosines of different images'
            features.
        images: How many images the means are over.
    """
    rows = [
        {"trigger": name, **{when: float(found[when]["triggered"]) for when in MARKS}}
        for name, found in triggers.items()
    ]
    first = next(iter(triggers.values()), None)
    clean = {when: float(first[when]["clean"]) for when in MARKS} if first else {}
    rows.sort(key=lambda row: clean["before"] - row["before"])
    return {"rows": rows, "clean": clean, "images": int(images)}


@styled
def draw_sensitivity(numbers: dict) -> Figure:
    """One row a trigger: the mean cosine before and after, beside that of clean images."""
    rows = numbers["rows"]
    if not rows:
        return empty("No trigger has been tried yet.")
    figure = new_figure(_ROW * len(rows) + 1.5)
    ax = figure.subplots()
    _lines(ax, rows)
    for when, (colour, mark) in MARKS.items():
        places = range(len(rows))
        ax.plot([row[when] for row in rows], places, mark, color=colour, ms=4.5, label=f"triggered, {when}", zorder=3)
        ax.axvline(numbers["clean"][when], color=colour, ls="--" if when == "before" else ":", lw=1.2,
                   label=f"clean, {when}")  # fmt: skip
    ax.set_yticks(range(len(rows)), [row["trigger"] for row in rows], fontsize=7.5)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("mean cosine of the features of different images")
    figure.legend(loc="outside upper center", ncols=4)
    footer(
        figure,
        f"All pairs of n = {numbers['images']} held-out images, one encoder: no interval. Far right of its line: "
        "the trigger makes different images look alike, as a backdoor does.",
    )
    return figure


def alt_sensitivity(numbers: dict) -> str:
    """The figure in words: the strongest triggers."""
    said = [f"{row['trigger']} {row['before']:.2f} to {row['after']:.2f}" for row in numbers["rows"][:5]]
    clean = numbers["clean"]
    base = f"clean images {clean['before']:.2f} to {clean['after']:.2f}" if clean else "none yet"
    return (
        "Mean cosine of the features of different images, before and after the repair: "
        f"{base}; strongest triggers: {', '.join(said) or 'none tried yet'}."
    )


def _lines(ax: Axes, rows: Sequence[dict]) -> None:
    for place, row in enumerate(rows):
        ax.plot([row["before"], row["after"]], [place, place], color=GREY, lw=0.8, zorder=2)
    ax.grid(axis="y", visible=False)


def numbers_attention(images, maps: Mapping[str, Sequence], trigger: str) -> dict:
    """Where two encoders look.

    Args:
        images: uint8 (N, 3, H, W), as the encoders saw them.
        maps: By `before` and `after`: of each stage, attention (N, h, w), 0 or more.
        trigger: On the images, in words.
    """
    images = np.asarray(images)
    columns = ["image", *(f"{when}_stage {stage + 1}" for when in MARKS for stage in range(len(maps[when])))]
    rows = {
        f"image {number + 1}": [
            _small(image),
            *(_small(_heated(image, np.asarray(each)[number])) for when in MARKS for each in maps[when]),
        ]
        for number, image in enumerate(images)
    }
    words = (
        f"{len(images)} held-out images with a trigger ({trigger}), and where each stage looks before and after the "
        "repair: the brighter, the more of the attention (sum over channels of squares)."
    )
    return {**numbers_synthetic(rows, words), "columns": columns}


def _heated(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """The picture in grey under its attention from black to yellow, uint8 (3, H, W)."""
    height, width = image.shape[1:]
    low, high = float(attention.min()), float(attention.max())
    level = (attention - low) / (high - low) if high > low else np.zeros_like(attention)
    level = np.asarray(Image.fromarray(level.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    heat = np.stack([255 * level, 220 * level, 40 * level])
    return (_HEAT * heat + (1 - _HEAT) * image.mean(0)).clip(0, 255).astype(np.uint8)


def _small(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture).transpose(2, 0, 1)
