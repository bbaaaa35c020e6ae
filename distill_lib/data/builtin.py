"""Image sets made here, with no download: one to pre-train on, three downstream sets with other classes.

* `builtin`: things (a house, a fish, a letter) in muted colours before a cluttered background. About 40 latent
  factors: kind, place, size, turn, stretch, shear and inner proportions of the object; its texture's kind, scale,
  turn and phase; its colours, detail and outline; the background's colours, clouds, texture, scale, turn and phase;
  number, places, sizes, forms and colours of the clutter; direction and strength of the light.
* `shapes`: 8 plain shapes. `patterns`: 10 textures. `digits`: scikit-learn's real handwritten digits in colour.

Every image depends on the constants below alone, and has the same bytes on every platform.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from distill_lib.data import motifs, textures
from distill_lib.data.cache import cached
from distill_lib.data.drawing import (
    Look,
    Plane,
    column,
    cover,
    finish,
    paint,
    place,
    sample,
    scatter_clutter,
    shade,
    soft_noise,
    tones,
    uniform,
)
from distill_lib.data.imageset import ImageSet
from distill_lib.errors import choose

VERSION = 1  # raise it when the code below draws other pixels from the same constants: old caches are left alone
SEED = 2024
_CHUNK = 500  # images drawn at once: their planes fit a processor's cache
_TURN = 3.1416  # any direction
_TRAIN_SOURCES = 2 / 3  # share of the 1,797 handwritten digits whose renderings are training images

# How hard each set is to read: the constants to tune. SIZES: images to make.
LOOKS: dict[str, Look] = {
    "builtin": Look(contrast=(70, 100), tone=3, ink=0.3, relief=0.15, clutter=2, noise=8, light=0.1),
    "shapes": Look(contrast=(70, 100), tone=3, ink=0.3, relief=0.15, clutter=2, noise=8, light=0.1),
    "patterns": Look(contrast=(70, 100), tone=3, ink=1.0, relief=0.15, clutter=0, noise=8, light=0.1),
    "digits": Look(contrast=(70, 100), tone=30, ink=0.3, relief=0.15, clutter=1, noise=8, light=0.1),
}
SIZES: dict[str, dict[str, int]] = {
    "builtin": {"train": 10_000, "test": 2_000},
    "shapes": {"train": 2_000, "test": 1_000},
    "patterns": {"train": 2_000, "test": 1_000},
    "digits": {"train": 2_000, "test": 1_000},
}


# --- one chunk of images: (rng, labels or sources) -> uint8 (n, 3, 32, 32) ----------------------------


def _scene(rng: np.random.Generator, n: int, look: Look) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A background with clouds, a texture and clutter; returns the canvas, its colour and the object's."""
    front, back = tones(rng, n, look)
    canvas = np.broadcast_to(back, (n, 3, *soft_noise(rng, 1, 1).shape[1:])).copy()
    clouds = 0.5 + 0.5 * soft_noise(rng, n, 3)
    paint(canvas, clouds, shade(rng, back, front, look.relief, look.tone))
    kinds = np.floor(rng.random(n) * 2 * len(textures.TEXTURES)).astype(int)  # half of them none
    plane = place(rng, n, scale=(0.4, 0.75), shift=1, turn=_TURN)
    paint(canvas, textures.by_kind(rng, plane, kinds), shade(rng, back, front, look.relief, look.tone))
    scatter_clutter(rng, canvas, look, look.clutter)
    return canvas, back, front


def _things(
    rng: np.random.Generator, kinds: np.ndarray, look: Look, bank: dict[str, motifs.Motif], plane: Plane
) -> np.ndarray:
    """Textured, sometimes outlined objects on a scene."""
    n = len(kinds)
    canvas, back, front = _scene(rng, n, look)
    body, detail = motifs.by_kind(rng, plane, kinds, bank)
    fill = np.broadcast_to(front, canvas.shape).copy()
    bare = np.isin(kinds, [list(bank).index(name) for name in motifs.TEXTURED if name in bank])
    texture = np.floor(rng.random(n) * np.where(bare, 1, 1.5) * len(textures.TEXTURES)).astype(int)  # or none
    ink = column(np.where(bare, 1, look.ink))
    paint(fill, textures.by_kind(rng, _inside(rng, plane), texture), shade(rng, front, back, ink, look.tone))
    paint(fill, cover(detail, plane.unit), shade(rng, front, back, 1, look.tone))
    outline = cover(np.abs(body) - uniform(rng, n, 0.03, 0.08), plane.unit) * (uniform(rng, n) < 0.3)
    paint(canvas, cover(body, plane.unit), fill)
    paint(canvas, outline, shade(rng, front, back, -0.4, look.tone))
    scatter_clutter(rng, canvas, look, look.clutter // 2)
    return finish(rng, canvas, look)


def _inside(rng: np.random.Generator, plane: Plane) -> Plane:
    """A texture's own coordinates on an object: another turn, phase and scale."""
    n = len(plane.u)
    angle = rng.random(n) * 2 * np.pi
    cos, sin, often = column(np.cos(angle)), column(np.sin(angle)), uniform(rng, n, 1.2, 2.6)
    u = (plane.u * cos + plane.v * sin) * often + uniform(rng, n)
    v = (plane.v * cos - plane.u * sin) * often + uniform(rng, n)
    return Plane(u, v, plane.unit / often)


def _objects(rng: np.random.Generator, labels: np.ndarray, look: Look) -> np.ndarray:
    plane = place(rng, len(labels), scale=(0.75, 1.0), shift=0.15, turn=0.5, stretch=0.25, shear=0.2)
    return _things(rng, labels, look, motifs.OBJECTS, plane)


def _shapes(rng: np.random.Generator, labels: np.ndarray, look: Look) -> np.ndarray:
    plane = place(rng, len(labels), scale=(0.6, 0.95), shift=0.2, turn=_TURN, stretch=0.15, shear=0.1)
    return _things(rng, labels, look, motifs.SHAPES, plane)


def _patterns(rng: np.random.Generator, labels: np.ndarray, look: Look) -> np.ndarray:
    n = len(labels)
    front, back = tones(rng, n, look)
    plane = place(rng, n, scale=(0.45, 0.75), shift=1, turn=0.6, stretch=0.2, shear=0.15)
    canvas = np.broadcast_to(back, (n, 3, *plane.u.shape[1:])).copy()
    paint(canvas, 0.5 + 0.5 * soft_noise(rng, n, 3), shade(rng, back, front, look.relief, look.tone))
    paint(canvas, textures.by_kind(rng, plane, labels, textures.PATTERNS), front)
    scatter_clutter(rng, canvas, look, look.clutter)
    return finish(rng, canvas, look)


def _digits(rng: np.random.Generator, pictures: np.ndarray, look: Look) -> np.ndarray:
    """Handwritten digits (n, 8, 8), 0 to 16, drawn with a random pen."""
    n = len(pictures)
    canvas, _, front = _scene(rng, n, look)
    plane = place(rng, n, scale=(0.75, 1.0), shift=0.1, turn=0.25, stretch=0.15, shear=0.2)
    level = sample(pictures.astype(np.float32) / 16, plane)
    mask = np.clip((level - uniform(rng, n, 0.25, 0.45)) * uniform(rng, n, 2.5, 5) + 0.5, 0, 1)
    paint(canvas, mask, front)
    scatter_clutter(rng, canvas, look, look.clutter // 2)
    return finish(rng, canvas, look)


# --- whole splits -------------------------------------------------------------------------------------


def _balanced(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """Labels (count,), as many of each class as the count allows, shuffled."""
    return (np.arange(count) % classes)[np.argsort(rng.random(count), kind="stable")]


def _in_chunks(rng: np.random.Generator, what: np.ndarray, look: Look, draw: Callable) -> np.ndarray:
    return np.concatenate([draw(rng, what[i : i + _CHUNK], look) for i in range(0, len(what), _CHUNK)])


def _drawn(name: str, split: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A split of a set whose images are drawn from their label."""
    recipe = BUILDERS[name]
    labels = _balanced(rng, SIZES[name][split], len(recipe.classes))
    return {"x": _in_chunks(rng, labels, LOOKS[name], recipe.draw), "y": labels}


def _rendered(name: str, split: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A split of the handwritten digits: no digit is in both, and renderings of one digit share a group."""
    from sklearn.datasets import load_digits  # slow to import, and not needed for any other set

    pictures, digit = load_digits(return_X_y=True)
    pictures = pictures.reshape(-1, 8, 8)
    labels = _balanced(rng, SIZES[name][split], 10)
    sources = np.empty(len(labels), dtype=np.int64)
    for value in range(10):
        pool = _sources(np.flatnonzero(digit == value), split)
        places = np.flatnonzero(labels == value)
        sources[places] = pool[np.arange(len(places)) % len(pool)]
    images = _in_chunks(rng, pictures[sources], LOOKS[name], BUILDERS[name].draw)
    return {"x": images, "y": labels, "track": sources}


def _sources(pool: np.ndarray, split: str) -> np.ndarray:
    """The part of a class's digits that belongs to a split, in an order that is the same for both splits."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    pool = pool[np.argsort(rng.random(len(pool)), kind="stable")]
    cut = round(len(pool) * _TRAIN_SOURCES)
    return pool[:cut] if split == "train" else pool[cut:]


class Recipe(NamedTuple):
    """A built-in set: its classes, how a chunk is drawn, how a split is put together."""

    classes: tuple[str, ...]
    draw: Callable[[np.random.Generator, np.ndarray, Look], np.ndarray]
    build: Callable[[str, str, np.random.Generator], dict[str, np.ndarray]]


BUILDERS: dict[str, Recipe] = {
    "builtin": Recipe(tuple(motifs.OBJECTS), _objects, _drawn),
    "shapes": Recipe(tuple(motifs.SHAPES), _shapes, _drawn),
    "patterns": Recipe(tuple(textures.PATTERNS), _patterns, _drawn),
    "digits": Recipe(tuple("0123456789"), _digits, _rendered),
}


def build(name: str, split: str) -> dict[str, np.ndarray]:
    """Draw a split: x uint8 (N, 3, 32, 32), y int64 (N,), for `digits` also track int64 (N,)."""
    seed = np.random.SeedSequence([SEED, list(BUILDERS).index(name), list(SIZES[name]).index(split)])
    return BUILDERS[name].build(name, split, np.random.Generator(np.random.PCG64(seed)))


def make_builtin(name: str, split: str, cache_dir: Path | None = None) -> ImageSet:
    """A built-in set, drawn or read from the cache.

    Args:
        name: One of `BUILDERS`.
        split: "train" or "test".
        cache_dir: Where the drawn images are kept; None draws them again.

    Raises:
        UsageError: If there is no such set or split.
    """
    recipe = choose("built-in data set", name, BUILDERS)
    choose(f"split of {name!r}", split, SIZES[name])
    path = None if cache_dir is None else cache_dir / cache_file(name, split)
    arrays = cached(path, lambda: build(name, split))
    groups = torch.from_numpy(arrays["track"]) if "track" in arrays else None
    images, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    return ImageSet(name, split, images, labels, recipe.classes, "builtin", groups)


def cache_file(name: str, split: str) -> str:
    """Name of the cache: the generator's version and everything that can be tuned are in it."""
    settings = hashlib.sha256(repr((SEED, LOOKS[name], SIZES[name])).encode()).hexdigest()[:8]
    return f"{name}-{split}-v{VERSION}-{settings}.npz"
