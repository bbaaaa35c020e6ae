import pandas as pd
import pytest

from distill_lib.evaluation.statistics import mean_interval
from distill_lib.plots.summary import counts, series


def rows(*values):
    return pd.DataFrame({"acc": values}, index=range(len(values)))


def test_three_seeds_have_an_interval_and_two_have_none():
    three, two = series(rows(1.0, 2.0, 4.0), "acc"), series(rows(1.0, 2.0), "acc")
    expected = mean_interval([1, 2, 4])
    assert (three["mean"], three["low"], three["high"], three["n"]) == (
        expected.mean,
        expected.low,
        expected.high,
        3,
    )
    assert (two["mean"], two["low"], two["high"], two["n"]) == (1.5, None, None, 2)
    assert two["seeds"] == [0, 1]
    assert two["values"] == [1.0, 2.0]


def test_missing_values_are_left_out():
    assert series(rows(1.0, None, 3.0), "acc")["seeds"] == [0, 2]
    nothing = series(rows(), "acc")
    assert nothing["n"] == 0
    assert nothing["mean"] is None


def test_counts_finds_every_n_but_zero():
    inside = {
        "a": [series(rows(1.0), "acc"), {"b": series(rows(1.0, 2.0), "acc")}],
        "c": series(rows(), "acc"),
    }
    assert counts(inside) == pytest.approx([1, 2])
