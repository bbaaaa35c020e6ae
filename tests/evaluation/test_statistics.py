import itertools
import math

import numpy as np
import pytest
from scipy import stats

from distill_lib.evaluation.statistics import equivalence, holm, mean_interval, paired_interval, sign_flip_p

RNG = np.random.default_rng(0)
A, B = RNG.normal(3, 1, 8), RNG.normal(2, 1, 8)


def test_mean_interval_agrees_with_scipy():
    found = mean_interval(A)
    low, high = stats.t.interval(0.95, 7, A.mean(), stats.sem(A))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((A.mean(), low, high, 8))
    assert mean_interval(A, 0.8).high < found.high


def test_mean_interval_of_a_known_case():
    # mean 2, sd 1, n 3: half width 4.302653 / sqrt(3)
    found = mean_interval([1, 2, 3])
    assert found.high - found.mean == pytest.approx(2.484138, abs=1e-6)


def test_one_value_has_a_mean_and_no_interval():
    found = mean_interval([4.0])
    assert (found.mean, found.n) == (4.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(paired_interval([1.0], [0.0]).p_above)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_no_statistics_of_nothing(values):
    with pytest.raises(ValueError, match="one finite value a seed"):
        mean_interval(values)


def test_paired_interval_agrees_with_scipy():
    found, theirs = paired_interval(A, B), stats.ttest_rel(A, B)
    interval = theirs.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert 2 * min(found.p_above, found.p_below) == pytest.approx(theirs.pvalue)
    assert found.p_above == pytest.approx(stats.ttest_rel(A, B, alternative="greater").pvalue)
    assert found.p_below == pytest.approx(1 - found.p_above)


def test_a_threshold_shifts_the_test_and_not_the_interval():
    plain, shifted = paired_interval(A, B), paired_interval(A, B, threshold=0.5)
    assert shifted.p_above == pytest.approx(stats.ttest_1samp(A - B, 0.5, alternative="greater").pvalue)
    assert (shifted.low, shifted.high) == (plain.low, plain.high)


def test_interval_and_test_agree():
    found = paired_interval(A, B)
    assert paired_interval(A, B, threshold=found.low).p_above == pytest.approx(0.025)
    assert paired_interval(A, B, threshold=found.high).p_below == pytest.approx(0.025)


def test_differences_that_agree_to_the_last_bit_are_certain():
    assert paired_interval([3.0] * 4, [1.0] * 4).p_above == 0
    assert paired_interval([3.0] * 4, [1.0] * 4).p_below == 1
    assert paired_interval([1.0] * 4, [1.0] * 4).p_above == 0.5


def test_pairs_must_match():
    with pytest.raises(ValueError, match="same seeds"):
        paired_interval([1, 2], [1, 2, 3])


def slow_sign_flip(d):
    sums = [np.dot(signs, d) for signs in itertools.product((1, -1), repeat=len(d))]
    return np.mean([abs(s) >= abs(sum(d)) - 1e-9 for s in sums])


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9])
def test_sign_flips_against_counting_them_all(n):
    for d in (RNG.normal(0.3, 1, n), RNG.integers(-3, 4, n)):  # integers tie
        assert sign_flip_p(d) == pytest.approx(slow_sign_flip(d))


def test_sign_flips_of_known_cases():
    assert sign_flip_p([1, 2, 3, 4, 5, 6]) == 2 / 64
    assert sign_flip_p([0.0, 0.0]) == 1
    assert sign_flip_p(np.ones(30)) == 2.0**-29
    with pytest.raises(ValueError, match="too many"):
        sign_flip_p(np.ones(41))


def test_holm_of_a_known_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_tested():
    found = holm([0.02, math.nan, 0.01])
    assert found[0] == pytest.approx(0.02)
    assert found[2] == pytest.approx(0.02)
    assert math.isnan(found[1])


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    found, d = equivalence(A, B, 2.0), A - B
    low = stats.ttest_1samp(d, -2.0, alternative="greater").pvalue
    high = stats.ttest_1samp(d, 2.0, alternative="less").pvalue
    assert found.p_inside == pytest.approx(max(low, high))
    below = stats.ttest_1samp(d, -2.0, alternative="less").pvalue
    above = stats.ttest_1samp(d, 2.0, alternative="greater").pvalue
    assert found.p_outside == pytest.approx(min(1, 2 * min(below, above)))
    assert found.n == 8


def test_equivalence_holds_when_the_interval_lies_inside_the_margin():
    d = np.array([0.1, -0.2, 0.0, 0.15, -0.1, 0.05])
    same = equivalence(d, np.zeros(6), 1.0)
    assert same.p_inside < 0.025
    assert -1 < same.low < same.high < 1
    assert equivalence(d + 5, np.zeros(6), 1.0).p_outside < 0.025
    edge = equivalence(d + 1, np.zeros(6), 1.0)
    assert min(edge.p_inside, edge.p_outside) > 0.025
    with pytest.raises(ValueError, match="margin"):
        equivalence(d, d, 0)
