import io

import numpy as np
import pandas as pd
import pytest

from distill_lib.plots.roc_inspect import alt_roc_inspect, draw_roc_inspect, numbers_roc_inspect


def rows(group, sizes, **about):
    usual = {"attack": "", "trigger": "", "defence": "none", "planted": np.nan, "held_out": False}
    return [{"group": group, "seed": seed, "size": size, **usual, **about} for seed, size in enumerate(sizes)]


@pytest.fixture
def made():
    """An inspect.csv and its summary."""
    attack = {"attack": "badencoder", "trigger": "profile's", "planted": True}
    table = pd.DataFrame([
        *rows("reference", [0.9]), *rows("clean", [0.3, 0.4]), *rows("attacked", [0.1, 0.35], **attack),
        *rows("attacked", [0.2], **{**attack, "attack": "ctrl", "held_out": True}),
        *rows("control", [0.6], defence="clean_share"),
        *rows("attacked", [0.5], **{**attack, "attack": "poisoned_data", "planted": False}),
    ])  # fmt: skip
    about = {"low": 0.5, "high": 1.0, "n_clean": 2, "threshold": 0.25, "n_reference": 8, "flagged_clean": 0}
    about |= {"false_positive_rate": 0.0, "fpr_low": 0.0, "fpr_high": 0.84}
    lines = [
        {"attacked": "all", "auc": 5 / 6, "n_attacked": 3},
        {"attacked": "held-out attack", "auc": 1.0, "n_attacked": 1},
    ]
    return table, pd.DataFrame([{**line, **about} for line in lines])


@pytest.fixture
def numbers(made):
    return numbers_roc_inspect(*made)


def test_the_threshold_encoders_are_not_judged_and_every_other_kind_is_drawn(numbers):
    kinds = {each["kind"]: each["sizes"] for each in numbers["kinds"]}
    assert kinds == {
        "clean": [0.3, 0.4],
        "BadEncoder": [0.1, 0.35],
        "CTRL *": [0.2],
        "clean share alone": [0.6],
        "poisoned data (not planted)": [0.5],
    }


def test_the_area_under_each_curve_is_its_auc_without_what_was_not_planted(numbers):
    for curve in numbers["curves"]:
        assert np.trapezoid(curve["true"], curve["false"]) == pytest.approx(curve["auc"])


def test_a_table_read_back_from_csv_draws_the_same(made, numbers):
    back = [pd.read_csv(io.StringIO(each.to_csv(index=False))) for each in made]
    assert numbers_roc_inspect(*back) == numbers


def test_every_area_is_said(numbers):
    legend = draw_roc_inspect(numbers).axes[1].get_legend()
    assert "all, n = 3: 0.833" in [text.get_text() for text in legend.texts]
    alt = alt_roc_inspect(numbers)
    assert "CTRL * 20.0" in alt
    assert "all 0.833 (0.500 to 1.000)" in alt


def test_nothing_inspected_is_said():
    empty = {"kinds": [], "curves": []}
    assert " yet." in draw_roc_inspect(empty).texts[0].get_text()
    assert "none yet" in alt_roc_inspect(empty)
