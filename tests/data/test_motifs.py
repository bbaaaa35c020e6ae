import numpy as np
import pytest

from distill_lib.data.drawing import cover, place
from distill_lib.data.motifs import OBJECTS, SHAPES, by_kind

EVERY = SHAPES | {name: motif for name, motif in OBJECTS.items() if name != "cloth"}


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def upright(n):
    return place(rng(), n, scale=(0.9, 0.9))


@pytest.mark.parametrize("name", EVERY)
def test_each_motif_is_a_compact_thing_in_the_middle(name):
    plane = upright(30)
    body, _ = EVERY[name](rng(1), plane)
    mask = cover(body, plane.unit)
    assert mask.dtype == np.float32
    assert mask.mean(axis=(1, 2)).min() > 0.05
    assert mask.mean(axis=(1, 2)).max() < 0.85
    border = np.concatenate([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], axis=1)
    assert border.mean() < 0.1


def test_cloth_fills_the_image():
    plane = upright(2)
    assert cover(OBJECTS["cloth"](rng(), plane)[0], plane.unit).min() == 1


def test_areas_of_simple_shapes():
    plane = place(rng(), 1, scale=(1, 1))
    areas = {name: cover(SHAPES[name](rng(), plane)[0], plane.unit).sum() / 256 for name in ("circle", "square")}
    assert areas["circle"] == pytest.approx(np.pi * 0.85**2, rel=0.02)
    assert areas["square"] == pytest.approx(1.5**2, rel=0.05)


def test_a_star_has_five_points():
    plane = place(rng(), 1, scale=(1, 1))
    body = SHAPES["star"](rng(), plane)[0][0]
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    rows, columns = 15.5 + 11 * np.sin(angles), 15.5 + 11 * np.cos(angles)
    inside = body[np.rint(rows).astype(int), np.rint(columns).astype(int)] < 0
    assert (inside & ~np.roll(inside, 1)).sum() == 5


def test_by_kind_draws_what_was_asked_for():
    kinds = np.array([1, 0, 1])
    bodies, details = by_kind(rng(), upright(3), kinds, {"circle": SHAPES["circle"], "house": OBJECTS["house"]})
    assert np.array_equal(bodies[1], SHAPES["circle"](rng(), upright(1))[0][0])
    assert (details[1] == 9).all()
    assert (details[[0, 2]] < 0).any(axis=(1, 2)).all()
