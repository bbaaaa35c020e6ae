import math

import numpy as np
import pytest

from distill_lib.data import drawing
from distill_lib.data.drawing import Plane, cover, pixel_grid, place, smooth_wave, soft_noise, strokes, triangle_wave


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def grid(n=1):
    x, y = pixel_grid()
    ones = np.ones((n, 1, 1), np.float32)
    return Plane(x * ones, y * ones, 16 * ones)


def test_waves_at_known_phases():
    phase = np.array([0, 0.25, 0.5, 0.75, 1, -0.5], np.float32)
    assert triangle_wave(phase).tolist() == [-1, 0, 1, 0, -1, 1]
    fine = np.linspace(0, 3, 400)
    assert np.abs(smooth_wave(fine) + np.cos(math.tau * fine)).max() < 0.06


def test_cover_counts_the_pixels_of_a_disc():
    plane = grid()
    distance = np.sqrt(plane.u**2 + plane.v**2) - 0.75
    assert cover(distance, plane.unit).sum() == pytest.approx(math.pi * 12**2, rel=0.01)


def test_stroke_distance_matches_a_slow_one():
    plane = grid()
    points = np.array([[[-0.5, -0.5, 0.5, 0.1], [0.5, 0.1, 0.5, 0.1]]])
    drawn = strokes(plane, points, 0.1)
    a, b = np.array([-0.5, -0.5]), np.array([0.5, 0.1])
    for row, column in ((0, 0), (16, 16), (31, 20), (5, 30)):
        p = np.array([plane.u[0, row, column], plane.v[0, row, column]])
        along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        assert drawn[0, row, column] == pytest.approx(np.linalg.norm(p - a - along * (b - a)) - 0.1, abs=1e-5)


def test_sample_reads_pixel_centres_and_nothing_outside():
    picture = np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4)
    centres = np.array([-0.75, -0.25, 0.25, 0.75], np.float32)
    u, v = np.meshgrid(centres, centres)
    assert np.array_equal(drawing.sample(picture, Plane(u[None], v[None], None)), picture)
    far = np.full((1, 1, 2), 5, np.float32)
    assert drawing.sample(picture, Plane(far, -far, None)).tolist() == [[[0, 0]]]


def test_pose_without_freedom_is_the_pixel_grid():
    plane = place(rng(), 2, scale=(1, 1))
    x, y = pixel_grid()
    assert np.array_equal(plane.u[1], x[0])
    assert np.array_equal(plane.v[0], y[0])
    assert plane.unit.ravel().tolist() == [16, 16]


def test_soft_noise_is_smooth_and_bounded():
    clouds = soft_noise(rng(), 50, 3)
    assert clouds.dtype == np.float32
    assert -1 <= clouds.min() < -0.5 < 0.5 < clouds.max() <= 1
    assert np.abs(np.diff(clouds, axis=2)).max() < 0.3


def test_finish_has_neither_black_nor_white():
    look = drawing.Look((70, 100), tone=60, ink=1, relief=1, clutter=0, noise=90, light=0.5)
    extreme = np.zeros((4, 3, 32, 32), np.float32)
    extreme[2:] = 255
    pixels = drawing.finish(rng(), extreme, look)
    assert pixels.dtype == np.uint8
    assert pixels.min() >= drawing.DARKEST
    assert pixels.max() <= drawing.BRIGHTEST


def test_tones_differ_by_the_contrast():
    look = drawing.Look((40, 60), tone=10, ink=1, relief=1, clutter=0, noise=0, light=0)
    first, second = drawing.tones(rng(), 500, look)
    steps = (first.mean(1) - second.mean(1)).ravel()
    assert 39.9 < np.abs(steps).min() < np.abs(steps).max() < 60.1
    assert 0.4 < (steps > 0).mean() < 0.6
