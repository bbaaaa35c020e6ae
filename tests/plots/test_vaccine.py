import numpy as np
import pytest

from distill_lib.plots import numbers_vaccine
from distill_lib.plots.vaccine import alt_vaccine, draw_vaccine


def test_a_perfect_score_has_a_perfect_roc():
    scores = {0: {"clean": np.array([1.0, 2.0]), "triggered": np.array([-2.0, -1.0]), "auc": 1.0}}
    (panel,) = numbers_vaccine({"badnet_grid": scores}, 0.984)["panels"]
    curve = panel["curves"][0]
    area = np.trapezoid(curve["true"], curve["false"])
    assert area == pytest.approx(1.0)
    assert (curve["false"][0], curve["true"][-1], curve["false"][-1]) == (0.0, 1.0, 1.0)
    assert sum(panel["clean"]) == pytest.approx(1.0)
    assert "badnet_grid 1.000; published 0.984" in alt_vaccine({"panels": [panel], "published": 0.984})


def test_no_score_is_said():
    assert " yet." in draw_vaccine({"panels": [], "published": 0.984}).texts[0].get_text()
