import pandas as pd
import pytest

from distill_lib.plots import numbers_strength
from distill_lib.plots.strength import alt_strength, draw_strength


def tuning_rows(seeds=(100, 101)) -> pd.DataFrame:
    """ACC 30 and ASR 10, plus the seed's last digit."""
    rows = [
        {"loss": loss, "weight": weight, "seed": seed, "acc": 30.0 + seed % 10, "asr": 10.0 + seed % 10, "n_test": 400}
        for loss, weights in (("kd", (1.0, 10.0)), ("at", (100.0, 1000.0)))
        for weight in weights
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_the_numbers_are_the_grid():
    numbers = numbers_strength(tuning_rows(), {"kd": 10.0}, {"kd": 1000.0, "at": 1000.0})
    assert numbers["seeds"] == [100, 101]
    kd, at = numbers["panels"]
    assert (kd["weights"], kd["chosen"], kd["released"]) == ([1.0, 10.0], 10.0, 1000.0)
    assert (at["chosen"], at["released"]) == (None, 1000.0)
    assert [each["mean"] for each in kd["acc"]] == [30.5, 30.5]
    assert kd["asr"][0]["values"] == [10.0, 11.0]


def test_the_figure_says_that_no_test_image_was_looked_at():
    figure = draw_strength(numbers_strength(tuning_rows(), {"kd": 10.0}, {}))
    words = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "100, 101 on validation images" in words
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() in "os"]
    assert [list(line.get_ydata()) for line in lines] == [[30.5, 30.5], [10.5, 10.5]]


def test_reported_seeds_are_refused():
    with pytest.raises(ValueError, match="seed 0"):
        numbers_strength(tuning_rows((0, 100)), {}, {})


def test_words_and_an_untuned_profile():
    assert "KD 1: 30.5/10.5, 10: 30.5/10.5" in alt_strength(numbers_strength(tuning_rows(), {}, {}))
    assert " yet" in draw_strength(numbers_strength(tuning_rows().iloc[:0], {}, {})).texts[0].get_text()
