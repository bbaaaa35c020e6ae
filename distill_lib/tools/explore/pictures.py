"""Small pictures as PNG bytes, drawn by PIL in a few milliseconds: what changes while a handle moves."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from distill_lib.plots.style import BLACK, VERMILION
from distill_lib.plots.tsne import CLASSES
from distill_lib.tools.explore.explorer import Bank, Shown
from distill_lib.tools.explore.subject import Subject

IMAGE, MAP, SMALL = 288, 360, 96  # sides in pixels on the screen
GAP = 8
FINE = 2  # the map is drawn so many times larger, and made smaller once
HEAT = (255 * matplotlib.colormaps["cividis"](np.arange(256))[:, :3]).astype(np.uint8)
SHAPES = {"^": (3, 0), "v": (3, 180), "D": (4, 45), "p": (5, 0), "<": (3, 90), ">": (3, 270), "h": (6, 0), "s": (4, 0)}
OUTLINE = VERMILION


def png(picture: Image.Image) -> bytes:
    """A picture as PNG bytes, little compressed: it goes no further than the next window."""
    buffer = io.BytesIO()
    picture.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def enlarged(image: Tensor, side: int = IMAGE) -> Image.Image:
    """An image uint8 (3, H, W) with pixels to be seen one by one."""
    pixels = np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def attention_strip(shown: Shown) -> Image.Image:
    """The attention of each stage, brightest where it is highest, with the square's outline."""
    strip = _strip(len(shown.attention))
    for number, found in enumerate(shown.attention.values()):
        values = np.asarray(found) / max(float(found.max()), 1e-12)
        tile = Image.fromarray(HEAT[(255 * values).round().astype(int)])
        tile = tile.resize((SMALL, SMALL), Image.Resampling.NEAREST)
        if shown.state.stamped:
            ImageDraw.Draw(tile).rectangle(_box(shown, SMALL), outline=OUTLINE, width=2)
        strip.paste(tile, (number * (SMALL + GAP), 0))
    return strip


def neighbour_strip(shown: Shown, bank: Bank) -> Image.Image:
    """The nearest neighbours, the nearest first."""
    strip = _strip(len(shown.neighbours))
    for number, (row, _) in enumerate(shown.neighbours):
        strip.paste(enlarged(bank.images[row], SMALL), (number * (SMALL + GAP), 0))
    return strip


def strip_width(count: int) -> int:
    """Of so many small pictures side by side, in pixels."""
    return count * SMALL + (count - 1) * GAP


def _strip(count: int) -> Image.Image:
    return Image.new("RGB", (strip_width(count), SMALL), "white")


def _box(shown: Shown, side: int) -> tuple[int, int, int, int]:
    """The square on a picture of `side` pixels: left, top, right, bottom."""
    state, scale = shown.state, side / shown.image.shape[-1]
    edges = state.column, state.row, state.column + state.size, state.row + state.size
    return tuple(round(edge * scale) - (number > 1) for number, edge in enumerate(edges))


class MapPicture:
    """The map of one encoder: its points are drawn once, the image's mark at each move.

    Attributes:
        marks: By class: its colour and shape, the same for every encoder.
    """

    def __init__(self, subject: Subject, bank: Bank):
        self.marks = class_marks(bank)
        points = np.asarray(subject.points, float)
        low, high = points.min(0), points.max(0)
        self._centre, self._scale = (low + high) / 2, (MAP - 32) / max(float((high - low).max()), 1e-12)
        picture = Image.new("RGB", (FINE * MAP, FINE * MAP), "white")
        draw = ImageDraw.Draw(picture)
        for point in points[len(bank.images) :]:
            _cross(draw, self._at(point, FINE), 3.5 * FINE)
        for label, point in zip(bank.labels.tolist(), points[: len(bank.images)], strict=True):
            _mark(draw, self._at(point, FINE), *self.marks[label], 4.5 * FINE)
        self.base = picture.resize((MAP, MAP), Image.Resampling.LANCZOS)

    def drawn(self, shown: Shown) -> Image.Image:
        """The map, the image's mark on it, and a line from where the image lies without the square."""
        picture = self.base.copy()
        draw = ImageDraw.Draw(picture)
        (x, y), origin = self._at(shown.position), self._at(shown.origin)
        draw.line([*origin, x, y], fill=BLACK, width=2)
        draw.ellipse(_around(*origin, 5), outline=BLACK, width=2)
        draw.ellipse(_around(x, y, 9), outline="white", width=6)
        draw.ellipse(_around(x, y, 8), outline=OUTLINE, width=4)
        return picture

    def _at(self, point: Sequence[float], fine: int = 1) -> tuple[float, float]:
        x, y = self._scale * (np.asarray(point, float) - self._centre)
        return fine * (MAP / 2 + float(x)), fine * (MAP / 2 - float(y))


def class_marks(bank: Bank) -> dict[int, tuple[str, str]]:
    """Colour and shape of each class of the bank, as in the t-SNE figure: the target a vermilion square."""
    others = [label for label in sorted(set(bank.labels.tolist())) if label != bank.target]
    return {bank.target: (VERMILION, "s"), **dict(zip(others, CLASSES, strict=False))}


def _mark(draw: ImageDraw.ImageDraw, at: tuple[float, float], colour: str, shape: str, radius: float) -> None:
    if shape in SHAPES:
        sides, turned = SHAPES[shape]
        draw.regular_polygon((*at, 1.2 * radius), sides, turned, fill=colour)
    else:
        draw.ellipse(_around(*at, radius), fill=colour)


def _cross(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float) -> None:
    left, top, right, bottom = _around(*at, radius)
    for line in ((left, top, right, bottom), (left, bottom, right, top)):
        draw.line(line, fill=BLACK, width=FINE)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius
