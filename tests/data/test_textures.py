import numpy as np
import pytest

from distill_lib.data.drawing import Plane, pixel_grid, place
from distill_lib.data.textures import PATTERNS, TEXTURES, by_kind


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_has_both_tones(name):
    drawn = PATTERNS[name](rng(1), place(rng(), 40, scale=(0.5, 0.5), shift=1))
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    ink = drawn.mean(axis=(1, 2))
    assert ink.min() > 0.03
    assert ink.max() < 0.97


@pytest.mark.parametrize(
    "name", [name for name in TEXTURES if name not in ("rings", "speckle", "zigzag", "waves", "bricks")]
)
def test_lattices_repeat_once_a_unit(name):
    x, y = pixel_grid()
    unit = np.full((1, 1, 1), 8, np.float32)
    here = TEXTURES[name](rng(), Plane(2 * x, 2 * y, unit))
    there = TEXTURES[name](rng(), Plane(2 * x + 1, 2 * y - 2, unit))
    assert np.abs(here - there).max() < 1e-4


def test_by_kind_leaves_unknown_kinds_plain():
    plane = place(rng(), 3, scale=(0.5, 0.5))
    drawn = by_kind(rng(), plane, np.array([0, 99, 1]), PATTERNS)
    assert drawn[0].any()
    assert not drawn[1].any()
    assert drawn[2].any()
