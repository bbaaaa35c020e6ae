import numpy as np
import pytest

from distill_lib.plots import numbers_vaccine
from distill_lib.plots.vaccine import alt_vaccine, draw_vaccine


def test_a_perfect_score_has_a_perfect_roc():
    scores = {0: {"clean": np.array([1.0, 2.0]), "triggered": np.array([-2.0, -1.0]), "auc": 1.0, "auc_usual": 0.75}}
    numbers = numbers_vaccine({"badnet_grid": scores}, 0.984, 1, 5)
    (panel,) = numbers["panels"]
    curve = panel["curves"][0]
    area = np.trapezoid(curve["true"], curve["false"])
    assert area == pytest.approx(1.0)
    assert (curve["false"][0], curve["true"][-1], curve["false"][-1]) == (0.0, 1.0, 1.0)
    assert sum(panel["clean"]) == pytest.approx(1.0)
    assert "badnet_grid 1.000; published 0.984" in alt_vaccine({"panels": [panel], "published": 0.984})


def test_the_published_number_of_convolutions_is_told_apart():
    scores = {0: {"clean": [1.0, 2.0], "triggered": [-2.0, -1.0], "auc": 1.0, "auc_usual": 0.75}}
    numbers = numbers_vaccine({"badnet_grid": scores}, 0.984, 1, 5)
    (words,) = (text.get_text() for text in draw_vaccine(numbers).axes[1].texts)
    assert words == "AUC 1.000 (shuffled: 1)\n0.750 (5)\npublished 0.984 (5)"
    assert "by seed: badnet_grid 1.000 (shuffled: 1), 0.750 (5); published 0.984." in alt_vaccine(numbers)
    (same,) = (text.get_text() for text in draw_vaccine({**numbers, "convolutions": 5}).axes[1].texts)
    assert same == "AUC 1.000 (shuffled: 5)\npublished 0.984 (5)"


def test_no_score_is_said():
    assert " yet." in draw_vaccine({"panels": [], "published": 0.984}).texts[0].get_text()
