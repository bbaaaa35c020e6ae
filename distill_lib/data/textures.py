"""Textures: planes of 0 to 1 that repeat once a unit of their coordinates."""

from collections.abc import Callable

import numpy as np

from distill_lib.data.drawing import Plane, smooth_wave, soft_noise, triangle_wave, uniform

Texture = Callable[[np.random.Generator, Plane], np.ndarray]


def _ink(level: np.ndarray, plane: Plane, slope: float = 0.25) -> np.ndarray:
    """Where `level` is positive, with an edge of about one pixel (a wave climbs 4 levels a unit)."""
    return np.clip(0.5 + level * plane.unit * slope, 0, 1)


def _cells(plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in each unit square, -0.5 to 0.5."""
    return plane.u - np.floor(plane.u) - 0.5, plane.v - np.floor(plane.v) - 0.5


def plain(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    return np.zeros_like(plane.u)


def stripes(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    return _ink(triangle_wave(plane.u) - uniform(rng, len(plane.u), -0.3, 0.3), plane)


def checks(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    return _ink(triangle_wave(plane.u) * triangle_wave(plane.v), plane, 0.4)


def dots(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    x, y = _cells(plane)
    return _ink(uniform(rng, len(x), 0.25, 0.36) - np.sqrt(x * x + y * y), plane, 1)


def rings(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """Circles about a point near the middle of the plane."""
    n = len(plane.u)
    x, y = plane.u - uniform(rng, n, -0.7, 0.7), plane.v - uniform(rng, n, -0.7, 0.7)
    return _ink(triangle_wave(np.sqrt(x * x + y * y)) - uniform(rng, n, -0.3, 0.3), plane)


def bricks(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """Mortar is 1; bricks are twice as long as high, every second course half a brick on."""
    row = np.floor(plane.v * 1.5)
    odd = row - 2 * np.floor(row / 2)
    across = np.abs(plane.u * 0.75 + odd / 2 - np.floor(plane.u * 0.75 + odd / 2) - 0.5) / 0.75
    along = np.abs(plane.v * 1.5 - row - 0.5) / 1.5
    edge = np.minimum(0.5 / 0.75 - across, 0.5 / 1.5 - along)
    return _ink(uniform(rng, len(plane.u), 0.07, 0.11) - edge, plane, 1)


def zigzag(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    bent = plane.u + uniform(rng, len(plane.u), 0.35, 0.5) * triangle_wave(plane.v * 0.7)
    return _ink(triangle_wave(bent) - uniform(rng, len(plane.u), -0.2, 0.2), plane)


def waves(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """Lines that bend slowly: long waves beside the zigzag's short ones."""
    bent = plane.u + uniform(rng, len(plane.u), 0.4, 0.6) * smooth_wave(plane.v * 0.35)
    return _ink(triangle_wave(bent) - uniform(rng, len(plane.u), 0.1, 0.4), plane)


def grid(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    x, y = _cells(plane)
    return _ink(uniform(rng, len(x), 0.09, 0.16) - np.minimum(np.abs(x), np.abs(y)), plane, 1)


def crosses(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """A plus sign in each cell."""
    x, y = np.abs(_cells(plane)[0]), np.abs(_cells(plane)[1])
    thick = uniform(rng, len(x), 0.08, 0.13)
    upright, flat = np.maximum(x - thick, y - 0.34), np.maximum(y - thick, x - 0.34)
    return _ink(-np.minimum(upright, flat), plane, 1)


def triangles(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    x, y = _cells(plane)
    return _ink(np.minimum(0.35 - y, (y + 0.35) / 2 - np.abs(x)) * 0.9, plane, 1)


def speckle(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """Blotches without any order; the plane only gives their number."""
    n = len(plane.u)
    fine, coarse = soft_noise(rng, n, 9), soft_noise(rng, n, 6)
    level = np.where(uniform(rng, n) < 0.5, fine, coarse)
    return np.clip(0.5 + 4 * (level - uniform(rng, n, -0.1, 0.3)), 0, 1)


PATTERNS: dict[str, Texture] = {
    "stripes": stripes,
    "checks": checks,
    "dots": dots,
    "rings": rings,
    "bricks": bricks,
    "zigzag": zigzag,
    "waves": waves,
    "grid": grid,
    "crosses": crosses,
    "speckle": speckle,
}
TEXTURES: dict[str, Texture] = {"plain": plain, "triangles": triangles} | PATTERNS


def by_kind(
    rng: np.random.Generator, plane: Plane, kinds: np.ndarray, bank: dict[str, Texture] = TEXTURES
) -> np.ndarray:
    """(n, S, S): image i gets texture number `kinds[i]` of the bank."""
    drawn = np.zeros_like(plane.u)
    for kind, texture in enumerate(bank.values()):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            drawn[rows] = texture(rng, plane.rows(rows))
    return drawn
