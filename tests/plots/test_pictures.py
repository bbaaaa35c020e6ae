import numpy as np

from distill_lib.plots import numbers_label_triggers, numbers_synthetic
from distill_lib.plots.pictures import draw_pictures, read_picture


def test_the_pixels_are_kept():
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    (row,) = numbers_synthetic({"made": [image]}, "Words.")["rows"]
    assert np.array_equal(read_picture(row["pictures"][0]), image.transpose(1, 2, 0))


def test_a_change_is_amplified_and_its_peak_said():
    clean = np.full((3, 8, 8), 100, np.uint8)
    triggered = clean.copy()
    triggered[:, 0, 0] = 140
    numbers = numbers_label_triggers(clean, {"sq": triggered}, {"sq": clean}, "cat")
    change = read_picture(numbers["rows"][1]["pictures"][0])
    assert change[0, 0].tolist() == [120, 120, 120]
    assert change.sum() == 360
    assert "sq 40" in numbers["words"]


def test_nothing_made_is_said():
    assert " yet." in draw_pictures(numbers_synthetic({"made": []}, "")).texts[0].get_text()
