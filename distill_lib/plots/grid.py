"""Pictures side by side, for a look between two steps; not one of the study's figures."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from distill_lib.plots.style import WIDTH, new_figure


def show_grid(rows: Mapping[str, object], titles: tuple[str, ...] = ()) -> Figure:
    """Draw rows of pictures.

    Args:
        rows: Row title -> images (N, 3, H, W), uint8 or float in [0, 1], or maps (N, H, W), each scaled to its own
            range.
        titles: One a column.
    """
    stacks = {title: _pictures(images) for title, images in rows.items()}
    columns = max(len(stack) for stack in stacks.values())
    figure = new_figure(WIDTH / max(columns, 4) * len(stacks) + 0.3)
    axes = figure.subplots(len(stacks), columns, squeeze=False)
    for line, (title, stack) in zip(axes, stacks.items(), strict=True):
        for ax, picture in zip(line, stack, strict=False):
            ax.imshow(picture, cmap="viridis")
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=8)
    return figure


def _pictures(images) -> np.ndarray:
    values = np.asarray(images)
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
