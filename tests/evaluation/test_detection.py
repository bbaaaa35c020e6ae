"""ROC, AUC, their intervals and thresholds, by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from distill_lib.evaluation.detection import auc, auc_interval, roc, share, threshold


def test_auc_by_hand():
    assert auc([3, 4], [1, 2]) == 1.0
    assert auc([1, 2], [3, 4]) == 0.0
    assert auc([2, 4], [1, 3]) == 0.75  # 1 < 2, 1 < 4, 3 < 4, but not 3 < 2
    assert auc([2, 2], [2]) == 0.5
    assert auc([1, 2], [2]) == 0.25


def test_auc_is_the_area_under_the_roc_and_blind_to_monotone_changes():
    rng = np.random.default_rng(0)
    clean, attacked = rng.normal(1, 1, 15).round(1), rng.normal(0, 1, 12).round(1)
    false, true = roc(clean, attacked)
    assert (false[0], true[0], false[-1], true[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(true, false) == pytest.approx(auc(clean, attacked))
    assert auc(np.exp(clean), np.exp(attacked)) == pytest.approx(auc(clean, attacked))
    assert auc(-clean, -attacked) == pytest.approx(1 - auc(clean, attacked))


def test_the_bootstrap_holds_the_value_and_narrows_with_n():
    rng = np.random.default_rng(1)
    few = auc_interval(rng.normal(1, 1, 12), rng.normal(0, 1, 12))
    many = auc_interval(rng.normal(1, 1, 300), rng.normal(0, 1, 300))
    for found in (few, many):
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert many.high - many.low < (few.high - few.low) / 2
    # Hanley and McNeil's deviation for AUC .76 and n = m = 300 is about .019
    assert many.high - many.low == pytest.approx(4 * 0.019, rel=0.3)


def test_the_bootstrap_agrees_with_a_plain_one():
    clean, attacked, rng = np.array([1.0, 2, 3, 5]), np.array([0.0, 1, 2.5]), np.random.default_rng(5)
    plain = []
    while len(plain) < 4000:
        drawn = rng.integers(0, 7, 7)
        a, b = clean[drawn[drawn < 4]], attacked[drawn[drawn >= 4] - 4]
        plain += [auc(a, b)] if len(a) and len(b) else []
    found = auc_interval(clean, attacked, draws=4000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.04)


def test_scores_of_a_group_are_drawn_together():
    clean, attacked = [1.0, 2.0, 3.0], [0.5, 2.5, 1.5]
    found = auc_interval(clean, attacked, ([0, 1, 2], [0, 1, 2]))
    assert found.groups == 3
    alone = auc_interval(clean, attacked)
    assert alone.groups == 6
    assert (found.value, found.clean, found.attacked) == (alone.value, 3, 3)
    with pytest.raises(ValueError, match="group"):
        auc_interval(clean, attacked, ([0], [1]))


def test_no_draw_parts_a_group():
    """Both groups drawn: AUC 3 of 4; one of them twice: 1. Apart, the scores 1 and 2 alone would give 0."""
    found = auc_interval([1, 3], [0, 2], ([0, 1], [0, 1]))
    assert (found.low, found.value, found.high) == (0.75, 0.75, 1.0)
    assert auc_interval([1, 3], [0, 2]).low == 0


def test_scores_that_never_overlap_have_a_point():
    found = auc_interval([5.0, 6, 7], [1.0, 2, 3])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_threshold_is_a_prediction_limit():
    # logs 0, 1, 2: mean 1, sd 1, n 3; t of 2 degrees at 5 % is -2.919986
    found = threshold(np.exp([0.0, 1.0, 2.0]))
    assert math.log(found.value) == pytest.approx(1 - 2.919986 * math.sqrt(4 / 3), abs=1e-5)
    assert (found.rate, found.n) == (0.05, 3)
    assert found.flags(found.value - 1e-6)
    assert not found.flags(found.value + 1e-6)


def test_a_new_clean_score_falls_below_the_threshold_at_the_rate():
    scores = np.exp(np.random.default_rng(0).normal(-1, 0.3, (4000, 9)))
    flagged = [threshold(row[:8]).flags(row[8]) for row in scores]
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.012)


def test_a_share_has_its_exact_interval():
    for hits, n in ((0, 12), (3, 12), (12, 12)):
        found, known = share(hits, n), stats.binomtest(hits, n).proportion_ci()
        assert (found.value, found.low, found.high) == pytest.approx((hits / n, known.low, known.high))
    assert share(0, 12).high == pytest.approx(1 - 0.025 ** (1 / 12))
    nothing = share(0, 0)
    assert (nothing.low, nothing.high, math.isnan(nothing.value)) == (0.0, 1.0, True)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [[1.0]]])
def test_scores_that_are_none_are_refused(scores):
    for wrong in ((scores, [1.0]), ([1.0], scores)):
        with pytest.raises(ValueError, match="finite"):
            auc(*wrong)


@pytest.mark.parametrize(("scores", "rate"), [([1.0, 2.0], 0.05), ([0.0, 1.0, 2.0], 0.05), ([1.0, 2.0, 3.0], 0.0)])
def test_a_threshold_needs_three_scores_above_0(scores, rate):
    with pytest.raises(ValueError, match="clean scores above 0"):
        threshold(scores, rate)
