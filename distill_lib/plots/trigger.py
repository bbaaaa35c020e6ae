"""What the attacker stamps on an image: clean, triggered, placebo, and the difference."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill_lib.plots.style import WIDTH, empty, footer, name, new_figure, styled

ROWS = {"clean": "clean", "triggered": "triggered", "placebo": "placebo", "difference": "difference"}
_FEW_COLUMNS = 6  # with fewer images the figure gets narrower, not the images larger


def numbers_trigger(
    clean,
    triggered,
    placebo,
    titles: Sequence[str] = (),
    attack: str = "badencoder",
    predictions: Mapping[str, Sequence[str]] | None = None,
) -> dict:
    """The pixels to draw.

    Triggered and placebo images are kept as differences to the clean ones, which is far fewer digits.

    Args:
        clean: uint8 (N, 3, H, W), tensor or array on the CPU; four to six images are a good number.
        triggered: The same images with the trigger.
        placebo: The same images with the placebo.
        titles: N true class names.
        attack: Its name in the tables.
        predictions: For the rows `clean`, `triggered`, `placebo`: what a classifier says of each image.
    """
    stacks = [np.asarray(images).astype(int).transpose(0, 2, 3, 1) for images in (clean, triggered, placebo)]
    return {
        "attack": attack,
        "titles": [str(t) for t in titles],
        "clean": stacks[0].tolist(),
        "triggered_minus_clean": (stacks[1] - stacks[0]).tolist(),
        "placebo_minus_clean": (stacks[2] - stacks[0]).tolist(),
        "predictions": {row: [str(p) for p in said] for row, said in (predictions or {}).items()},
    }


@styled
def draw_trigger(numbers: dict) -> Figure:
    """One row a version, one column an image; the difference is scaled up where it is faint."""
    images = _images(numbers)
    count = len(images["clean"])
    if not count:
        return empty("No images to show the trigger on.")
    predictions = numbers["predictions"]
    side = WIDTH / (_FEW_COLUMNS + 1)
    figure = new_figure(4 * side + 0.75 + 0.18 * len(predictions), side * (count + 1) + 0.2)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)
    axes = figure.subplots(4, count, squeeze=False)
    peak = int(images["difference"].max())
    scale = 255 // peak if peak else 1
    for line, (row, label) in zip(axes, ROWS.items(), strict=True):
        for column, (ax, image) in enumerate(zip(line, images[row], strict=True)):
            _show(ax, image * (scale if row == "difference" else 1))
            said = predictions.get(row)
            if said:
                ax.set_xlabel(f"→ {_short(said[column])}", fontsize=7.5, labelpad=2)
        line[0].set_ylabel(
            label + (f"\n× {scale}" if row == "difference" and scale > 1 else ""), fontsize=8.5, rotation=90
        )
    for ax, title in zip(axes[0], numbers["titles"], strict=False):
        ax.set_title(_short(title), fontsize=8.5, fontweight="normal", loc="center", pad=4)
    changed = 100 * (images["difference"].max(-1) > 0).mean()
    arrow = " Arrows: what the downstream classifier says." if predictions else ""
    footer(
        figure,
        f"{name(numbers['attack'])}: the trigger changes {changed:.1f} % of the pixels, by up to {peak} "
        f"of 255 levels. Difference: |triggered − clean|. Columns: {count} images with their true "
        f"classes.{arrow}",
    )
    return figure


def alt_trigger(numbers: dict) -> str:
    """The figure in words."""
    changed = 100 * (_images(numbers)["difference"].max(-1) > 0).mean() if numbers["clean"] else 0
    return (
        f"{len(numbers['clean'])} images in four rows: clean, with the trigger of {name(numbers['attack'])}, "
        f"with the placebo, and the triggered ones' difference to the clean: {changed:.1f} % of the pixels."
    )


def _images(numbers: dict) -> dict[str, np.ndarray]:
    clean = np.array(numbers["clean"], int)
    change = np.array(numbers["triggered_minus_clean"], int)
    placebo = clean + np.array(numbers["placebo_minus_clean"], int)
    return {"clean": clean, "triggered": clean + change, "placebo": placebo, "difference": np.abs(change)}


def _show(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image.clip(0, 255).astype(np.uint8), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _short(text: str, most: int = 16) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
