"""Rows of small pictures: the ten triggers, and the images that a student learns from."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from distill_lib.plots.style import WIDTH, empty, footer, new_figure, styled

_LABEL = 0.85  # inches beside a row
AMPLIFIED = 3  # factor on the differences


def numbers_label_triggers(clean, triggered: Mapping[str, object], placebo: Mapping[str, object], title: str) -> dict:
    """The ten triggers on one image.

    Args:
        clean: uint8 (3, H, W), tensor or array on the CPU.
        triggered: The same image by trigger.
        placebo: Likewise.
        title: The image's class.
    """
    names = list(triggered)
    change = [np.abs(np.asarray(triggered[n]).astype(int) - np.asarray(clean).astype(int)) for n in names]
    rows = {
        "triggered": [triggered[name] for name in names],
        f"change × {AMPLIFIED}": [(AMPLIFIED * each).clip(0, 255).astype(np.uint8) for each in change],
        "placebo": [placebo[name] for name in names],
    }
    peaks = ", ".join(f"{name} {each.max()}" for name, each in zip(names, change, strict=True))
    words = (
        f"One image ({title}) under each trigger; its change, amplified; and the placebo. Largest change of a pixel, "
        f"of 255: {peaks}."
    )
    return {"rows": _rows(rows), "columns": names, "words": words}


def numbers_synthetic(rows: Mapping[str, object], words: str) -> dict:
    """What students learn from: row title -> uint8 images (N, 3, H, W), of any sizes; `words` go below."""
    return {"rows": _rows(rows), "columns": [], "words": words}


def _rows(rows: Mapping[str, object]) -> list[dict]:
    return [{"title": str(title), "pictures": [*map(write_picture, images)]} for title, images in rows.items()]


def write_picture(image) -> str:
    """A picture uint8 (3, H, W) as a PNG in base64: the pixels drawn, in few letters."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def read_picture(text: str) -> np.ndarray:
    """Its pixels, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@styled
def draw_pictures(numbers: dict) -> Figure:
    """One row a title, one column a picture."""
    rows = [row for row in numbers["rows"] if row["pictures"]]
    if not rows:
        return empty("No picture has been made yet.")
    count = max(len(row["pictures"]) for row in rows)
    side = (WIDTH - _LABEL) / max(count, 8)
    figure = new_figure(side * len(rows) + 0.3 * bool(numbers["columns"]) + 0.55)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(rows), max(count, 8), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, text in zip(line, row["pictures"], strict=False):
            ax.imshow(read_picture(text), interpolation="nearest")
        line[0].set_ylabel(row["title"], rotation=0, ha="right", va="center", fontsize=8)
    for ax, title in zip(axes[0], numbers["columns"], strict=False):
        ax.set_title(_broken(title), fontsize=7.5, fontweight="normal", loc="center", pad=3)
    footer(figure, numbers["words"])
    return figure


def alt_pictures(numbers: dict) -> str:
    """The figure in words."""
    rows: Sequence[str] = [f"{row['title']} ({len(row['pictures'])})" for row in numbers["rows"]]
    return f"Rows of small pictures: {'; '.join(rows) or 'none yet'}. {numbers['words']}"


def _broken(title: str) -> str:
    return title.replace("_", "\n", 1)
