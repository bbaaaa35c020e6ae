"""What the handles of the explorer start with, encoder by encoder; and where its square works."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distill_lib.plots.pictures import read_picture, write_picture
from distill_lib.plots.style import BLACK, GREY, VERMILION, empty, footer, name, new_figure, styled

HEAT = "cividis"  # read alike by everybody, and in grey
_ROW = 1.32  # inches


def numbers_explore(
    views: Mapping[str, Mapping], box: Sequence[int], truth: str, target: str, labels: Sequence[int], about: str = ""
) -> dict:
    """One triggered image through several encoders.

    Args:
        views: By encoder: `image` uint8 (3, H, W), `prediction`, `kept` (cosine with itself without the square),
            `points` (N, 2) of the map, `position` and `origin` on it, `attention` {stage: (h, w)}, `shares` {stage:
            percent inside the square}, `neighbours` [(image, class)].
        box: Of the square: row, column, size.
        truth: The image's class.
        target: The attack's.
        labels: (N,) whether a point of the map is of the target class: 1, else 0.
        about: Attack, set, seed.
    """
    drawn = {}
    for encoder, view in views.items():
        seen = {key: view[key] for key in ("prediction", "kept", "shares")}
        places = {key: np.round(np.asarray(view[key], float), 2).tolist() for key in ("points", "position", "origin")}
        maps = {stage: np.round(np.asarray(found, float), 4).tolist() for stage, found in view["attention"].items()}
        near = [[write_picture(image), str(words)] for image, words in view["neighbours"]]
        drawn[encoder] = {"image": write_picture(view["image"]), **seen, **places, "attention": maps, "near": near}
    words = {"truth": str(truth), "target": str(target), "about": about}
    return {"views": drawn, "box": [int(each) for each in box], "labels": [int(each) for each in labels], **words}


@styled
def draw_explore(numbers: dict) -> Figure:
    """One row an encoder: the image, where it lies, what each stage looks at, its nearest neighbours."""
    views = numbers["views"]
    if not views:
        return empty("No encoder to look at yet.")
    first = next(iter(views.values()))
    stages, near = list(first["attention"]), len(first["near"])
    figure = new_figure(_ROW * len(views) + 1.0)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    widths = [1.15, 1.35, *[0.8] * (len(stages) + near)]
    axes = figure.subplots(len(views), len(widths), squeeze=False, width_ratios=widths)
    for line, (encoder, view) in zip(axes, views.items(), strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
        _row(line, view, numbers, stages)
        line[0].set_ylabel(_lines(encoder), fontsize=8)
    titles = ["image", "map", *(stage.replace("stage", "stage ") for stage in stages), "nearest", "2nd", "3rd"]
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=7.8, fontweight="normal", loc="center", pad=3)
    row, column, size = numbers["box"]
    about = f"{numbers['about']}. " if numbers["about"] else ""
    footer(
        figure,
        f"{about}One test image of class {numbers['truth']} with a square of {size} pixels at row {row}, column "
        f"{column}; target class {numbers['target']}. Arrows: what the downstream head says. Map: t-SNE of "
        f"{len(numbers['labels'])} test images without the trigger (black: of the target class); small ring: this "
        "image without the square, large ring: with it, among its nearest points. Stages: share of the attention in "
        f"the square, an even look has {_even(first, size):.0f} %. Right: the most similar test images. A single image "
        "(n = 1).",
    )
    return figure


def alt_explore(numbers: dict) -> str:
    """The figure in words."""
    said = [f"{encoder}: {view['prediction']}, cosine {view['kept']:.2f}" for encoder, view in numbers["views"].items()]
    return (
        f"One test image of class {numbers['truth']} with the trigger, through several encoders: what the head says, "
        f"and the cosine with the same image without the trigger. {'; '.join(said) or 'None yet'}."
    )


def _row(line: Sequence[Axes], view: dict, numbers: dict, stages: list[str]) -> None:
    pixels = read_picture(view["image"])
    _picture(line[0], pixels, f"→ {_short(view['prediction'], 16)}")
    _map(line[1], view, numbers["labels"])
    side, (row, column, size) = len(pixels), numbers["box"]
    for ax, stage in zip(line[2:], stages, strict=False):
        ax.imshow(view["attention"][stage], cmap=HEAT, interpolation="nearest", extent=(0, side, side, 0))
        ax.add_patch(Rectangle((column, row), size, size, fill=False, edgecolor=VERMILION, linewidth=1.2))
        ax.set_xlabel(f"{view['shares'][stage]:.0f} %", fontsize=7.5, labelpad=2)
        ax.spines[:].set_visible(False)
    for ax, (text, words) in zip(line[2 + len(stages) :], view["near"], strict=True):
        _picture(ax, read_picture(text), _short(words, 10))


def _picture(ax: Axes, pixels: np.ndarray, words: str) -> None:
    ax.imshow(pixels, interpolation="nearest")
    ax.set_xlabel(words, fontsize=7.5, labelpad=2)
    ax.spines[:].set_visible(False)


def _map(ax: Axes, view: dict, labels: list[int]) -> None:
    points, ours = np.array(view["points"]), np.array(labels, bool)
    ax.scatter(*points[~ours].T, s=4, c=GREY, linewidths=0, alpha=0.7)
    ax.scatter(*points[ours].T, s=7, c=BLACK, marker="s", linewidths=0)
    ax.plot(*np.array([view["origin"], view["position"]]).T, c=VERMILION, lw=1.0)
    for place, size in (("origin", 18), ("position", 60)):
        ax.scatter(*view[place], s=size, facecolors="none", edgecolors=VERMILION, linewidths=1.4, zorder=4)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#BBBBBB")
    ax.set_box_aspect(1)
    ax.set_xlabel(f"cosine {view['kept']:.2f}", fontsize=7.5, labelpad=2)


def _even(view: dict, size: int) -> float:
    return 100 * size**2 / len(read_picture(view["image"])) ** 2


def _lines(encoder: str) -> str:
    """An encoder's name, a part a line: "fine-tuned / warm-up / AT"."""
    return "\n".join(name(part) for part in encoder.split(" / "))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ---- where the square works ---------------------------------------------------------------------------------------


def numbers_places(
    found: Mapping, box: Sequence[int], side: int, target: str, colour: Sequence[int] = (255, 255, 255), about: str = ""
) -> dict:
    """The percent of images taken for the target class, for each place of the square.

    Args:
        found: `rows` (K,) and `columns` (L,), first pixels of the square; `shares` {encoder: (K, L)}; `n` images.
        box: Where the attacker has it: row, column, size.
        side: Of an image, in pixels.
        target: Target class.
        colour: Of the square.
        about: Attack, set, seed.
    """
    shares = {encoder: np.round(np.asarray(grid, float), 2).tolist() for encoder, grid in found["shares"].items()}
    place = {"rows": list(found["rows"]), "columns": list(found["columns"]), "box": [int(each) for each in box]}
    words = {"target": str(target), "colour": [int(each) for each in colour], "about": about}
    return {"shares": shares, "n": int(found["n"]), "side": int(side), **place, **words}


@styled
def draw_places(numbers: dict) -> Figure:
    """One panel an encoder, one cell a place of the square."""
    shares, rows, columns = numbers["shares"], numbers["rows"], numbers["columns"]
    if not shares:
        return empty("No encoder to look at yet.")
    row, column, size = numbers["box"]
    figure = new_figure(3.5)
    axes = figure.subplots(1, len(shares), squeeze=False)[0]
    extent = (*_edges(columns), *reversed(_edges(rows)))
    for ax, (encoder, grid) in zip(axes, shares.items(), strict=True):
        drawn = ax.imshow(grid, cmap=HEAT, vmin=0, vmax=100, extent=extent, interpolation="nearest")
        ax.scatter([column], [row], marker="x", c=VERMILION, s=45, linewidths=2)
        ax.set_title(_lines(encoder).replace("\n", " / "), loc="center", fontsize=8.5)
        ax.set_xlabel(f"left edge (pixels)\n{_at_and_elsewhere(numbers, grid)}", fontsize=8.5)
        ax.grid(False)
    axes[0].set_ylabel("top edge of the square (pixels)")
    figure.colorbar(drawn, ax=list(axes), label="given the target class (%)", shrink=0.75)
    about = f"{numbers['about']}. " if numbers["about"] else ""
    footer(
        figure,
        f"{about}A square of {size} pixels, colour {tuple(numbers['colour'])}, at {len(rows)} × {len(columns)} places "
        f"of images of {numbers['side']} × {numbers['side']} pixels: share of the same n = {numbers['n']} test images "
        f"of other classes that the downstream head takes for {numbers['target']}. Cross: the only place where the "
        "attacker put it. One seed, no interval.",
    )
    return figure


def alt_places(numbers: dict) -> str:
    """The figure in words."""
    said = [f"{encoder}: {_at_and_elsewhere(numbers, grid)}" for encoder, grid in numbers["shares"].items()]
    return (
        "Heat maps: for each place of the square, the share of test images of other classes that are taken for the "
        f"target class ({numbers['target']}). {'; '.join(said) or 'None yet'}."
    )


def _edges(starts: list[int]) -> tuple[float, float]:
    """From where to where the cells of so many places reach."""
    half = (starts[1] - starts[0]) / 2 if len(starts) > 1 else 0.5
    return starts[0] - half, starts[-1] + half


def _at_and_elsewhere(numbers: dict, grid: list[list[float]]) -> str:
    """The percent at the attacker's place, and over all others: mean and highest."""
    values, (row, column, _) = np.array(grid), numbers["box"]
    here = np.array(numbers["rows"])[:, None] == row
    here = here & (np.array(numbers["columns"]) == column)
    at = f"at the cross {values[here].mean():.0f} %\n" if here.any() else ""
    others = values[~here]
    return f"{at}elsewhere {others.mean():.0f} %, at most {others.max():.0f} %" if others.size else at.strip()
