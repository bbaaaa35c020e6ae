"""Drawing many small images at once, byte for byte the same on every platform.

Pixels only meet operations that IEEE 754 rounds exactly (+ - * /, sqrt, floor, comparisons) in float32, and
all randomness is `Generator.random`; sines and cosines are taken of numbers per image, in float64.
Per-image numbers have the shape (n, 1, 1), planes (n, S, S), canvases (n, 3, S, S); S = 32.
"""

from typing import NamedTuple

import numpy as np

SIZE = 32
DARKEST, BRIGHTEST = 8, 226  # no black, and no white: the attack's trigger is a white square


class Look(NamedTuple):
    """How hard a set is to read: the constants to tune.

    Attributes:
        contrast: Lightness steps (of 255) between the two tones of an image, smallest and largest.
        tone: Largest distance of a colour channel from grey; small is muted.
        ink: Contrast of an object's texture, as a share of the image's own.
        relief: Contrast of the background's clouds and texture, likewise.
        clutter: Strokes and blobs behind (and, half as many, before) the object: 0 up to this many.
        noise: Amplitude of the pixel noise.
        light: Largest change of brightness from the middle to an edge.
    """

    contrast: tuple[float, float]
    tone: float
    ink: float
    relief: float
    clutter: int
    noise: float
    light: float


class Plane(NamedTuple):
    """Coordinates of every pixel in an object's own frame, and the pixels in one unit of it."""

    u: np.ndarray
    v: np.ndarray
    unit: np.ndarray

    def rows(self, index: np.ndarray) -> "Plane":
        return Plane(self.u[index], self.v[index], self.unit[index])


def column(values) -> np.ndarray:
    """(n,) numbers as float32 (n, 1, 1)."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


def uniform(rng: np.random.Generator, n: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """(n, 1, 1) float32 in [low, high)."""
    return column(low + (high - low) * rng.random(n))


def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixel centres, (1, S, S), -1 to 1 from edge to edge."""
    line = ((np.arange(SIZE) * 2 + 1) / SIZE - 1).astype(np.float32)
    return np.broadcast_to(line, (1, SIZE, SIZE)), np.broadcast_to(line[:, None], (1, SIZE, SIZE))


def place(
    rng: np.random.Generator,
    n: int,
    *,
    scale: tuple[float, float],
    shift: float = 0.0,
    turn: float = 0.0,
    stretch: float = 0.0,
    shear: float = 0.0,
) -> Plane:
    """Random poses.

    Args:
        rng: Source of randomness.
        n: Number of images.
        scale: Half the object's size, as a share of half the image.
        shift: Largest shift of the centre, in half images.
        turn: Largest rotation to either side, radians.
        stretch: Largest relative change of width against height.
        shear: Largest shear.
    """
    x, y = pixel_grid()
    x = x - uniform(rng, n, -shift, shift)
    y = y - uniform(rng, n, -shift, shift)
    angle = turn * (2 * rng.random(n) - 1)
    cos, sin = column(np.cos(angle)), column(np.sin(angle))
    size = uniform(rng, n, *scale)
    aspect = 1 + uniform(rng, n, -stretch, stretch)
    u, v = (x * cos + y * sin) / (size * aspect), (y * cos - x * sin) / size
    return Plane(u + uniform(rng, n, -shear, shear) * v, v, size * (SIZE / 2))


def cover(distance: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Signed distance (units; negative inside) to the share of each pixel that is covered, 0 to 1."""
    return np.clip(0.5 - distance * unit, 0, 1)


def triangle_wave(phase: np.ndarray) -> np.ndarray:
    """Period 1, from -1 at integers to 1 at halves."""
    fraction = phase - np.floor(phase)
    return 1 - np.abs(4 * fraction - 2)


def smooth_wave(phase: np.ndarray) -> np.ndarray:
    """A sine in all but name (parabolas), since no two libraries round a sine alike."""
    triangle = triangle_wave(phase)
    return triangle * (2 - np.abs(triangle))


def soft_noise(rng: np.random.Generator, n: int, cells: int) -> np.ndarray:
    """Clouds (n, S, S) in [-1, 1): random values on a coarse lattice, smoothly interpolated."""
    lattice = (2 * rng.random((n, cells + 1, cells + 1)) - 1).astype(np.float32)
    at = (np.arange(SIZE) + 0.5) * cells / SIZE
    low = np.floor(at).astype(int)
    weight = (at - low).astype(np.float32)
    weight = weight * weight * (3 - 2 * weight)
    rows = lattice[:, low] * (1 - weight[:, None]) + lattice[:, low + 1] * weight[:, None]
    return rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight


def tones(rng: np.random.Generator, n: int, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Two colours (n, 3, 1, 1) that differ in lightness by the look's contrast, either one the lighter."""
    half = uniform(rng, n, *look.contrast) / 2 * np.where(uniform(rng, n) < 0.5, -1, 1)
    middle = uniform(rng, n, 100, 150)
    return tint(rng, middle + half, look.tone), tint(rng, middle - half, look.tone)


def tint(rng: np.random.Generator, lightness: np.ndarray, tone: float) -> np.ndarray:
    """A muted colour (n, 3, 1, 1) of the given lightness (n, 1, 1)."""
    hue = (2 * rng.random((len(lightness), 3)) - 1).astype(np.float32)
    hue = hue - (hue[:, :1] + hue[:, 1:2] + hue[:, 2:]) / 3
    return lightness[:, None].astype(np.float32) + tone * hue[:, :, None, None]


def shade(rng: np.random.Generator, colour: np.ndarray, other: np.ndarray, share, tone: float) -> np.ndarray:
    """A shade of a colour: up to `share` of the way to the other one (away from it below 0), in another tint."""
    n = len(colour)
    near = colour + (other - colour) * (uniform(rng, n, 0.4, 1) * share)[:, None]
    return near + tint(rng, np.zeros((n, 1, 1)), tone / 2)


def paint(canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Lay a colour (n, 3, 1, 1 or S, S) over the canvas in place, where the mask (n, S, S) is 1."""
    canvas += mask[:, None] * (colour - canvas)


def sample(pictures: np.ndarray, plane: Plane) -> np.ndarray:
    """Small pictures (n, P, P), stretched over -1 to 1 of the plane, bilinearly interpolated; 0 around them."""
    size = pictures.shape[1]
    padded = np.pad(pictures, ((0, 0), (1, 2), (1, 2)))
    values, spots = 0, []
    for coordinate in (plane.v, plane.u):
        at = np.clip((coordinate + 1) * (size / 2) + 0.5, 0, size + 1)
        low = np.floor(at)
        spots.append((low.astype(int), at - low))
    (row, down), (left, right) = spots
    image = np.arange(len(pictures))[:, None, None]
    for dy, share_y in ((0, 1 - down), (1, down)):
        for dx, share_x in ((0, 1 - right), (1, right)):
            values = values + padded[image, row + dy, left + dx] * share_y * share_x
    return values


def strokes(plane: Plane, points: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Signed distance to a pen stroke through points.

    Args:
        plane: Coordinates of n images.
        points: (n, K, 4): K straight pieces, each x0, y0, x1, y1.
        width: (n, 1, 1), half the pen's width.
    """
    nearest = None
    for x0, y0, x1, y1 in np.moveaxis(points.astype(np.float32), 0, -1)[..., None, None]:
        dx, dy = x1 - x0, y1 - y0
        along = ((plane.u - x0) * dx + (plane.v - y0) * dy) / (dx * dx + dy * dy + 1e-6)
        along = np.clip(along, 0, 1)
        off_x, off_y = plane.u - x0 - along * dx, plane.v - y0 - along * dy
        squared = off_x * off_x + off_y * off_y
        nearest = squared if nearest is None else np.minimum(nearest, squared)
    return np.sqrt(nearest) - width


def scatter_clutter(rng: np.random.Generator, canvas: np.ndarray, look: Look, most: int) -> None:
    """Paint 0 to `most` small blobs, rings and strokes at random places, in place."""
    n = len(canvas)
    count = np.floor(rng.random(n) * (most + 1))
    for number in range(most):
        plane = place(rng, n, scale=(0.3, 0.8), shift=1.0, turn=3.2)
        length, width = uniform(rng, n, 0, 0.9), uniform(rng, n, 0.08, 0.3)
        off = np.maximum(np.abs(plane.u) - length, 0)
        distance = np.sqrt(off * off + plane.v * plane.v) - width
        hollow = np.abs(distance) - width * 0.4
        distance = np.where(uniform(rng, n) < 0.3, hollow, distance)
        colour = tint(rng, uniform(rng, n, 80, 170), look.tone)
        paint(canvas, cover(distance, plane.unit) * column(count > number) * 0.8, colour)


def finish(rng: np.random.Generator, canvas: np.ndarray, look: Look) -> np.ndarray:
    """Light from one side, a soft focus, noise; then uint8 (n, 3, S, S)."""
    n, (x, y) = len(canvas), pixel_grid()
    slope = x * uniform(rng, n, -look.light, look.light) + y * uniform(rng, n, -look.light, look.light)
    canvas = canvas * (1 + slope[:, None])
    blurred = _blur(canvas)
    canvas = canvas + 0.35 * (blurred - canvas)
    grain = rng.random(canvas.shape, dtype=np.float32) + rng.random(canvas.shape, dtype=np.float32) - 1
    canvas = canvas + grain * look.noise
    return np.floor(np.clip(canvas, DARKEST, BRIGHTEST) + 0.5).astype(np.uint8)


def _blur(canvas: np.ndarray) -> np.ndarray:
    """1-2-1 over rows, then columns; edges repeated."""
    padded = np.pad(canvas, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4
