"""Few seeds, honestly: t intervals, paired comparisons, exact sign flips, Holm, equivalence.

The unit is the seed (an independent pre-training, attack, clean subset, student and head), never the test
image. Every result carries its n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats would take seconds to import

MOST_FLIPPED = 40  # values that `sign_flip_p` still counts exactly: two halves of 2 ** 20 sums


@dataclass(frozen=True)
class Interval:
    """A mean with its t interval.

    Attributes:
        mean: Of the values.
        low: Lower end; NaN where n is 1.
        high: Upper end; NaN where n is 1.
        n: Number of values (seeds).
        level: Coverage, two-sided.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float


@dataclass(frozen=True)
class Comparison(Interval):
    """A mean paired difference, its t interval, and the evidence that it lies above or below a threshold.

    Attributes:
        threshold: What the difference is held against.
        p_above: One-sided p of the t test against "it is at most the threshold"; NaN where n is 1.
        p_below: The same against "at least".
    """

    threshold: float
    p_above: float
    p_below: float


@dataclass(frozen=True)
class Equivalence(Interval):
    """Two one-sided tests (TOST; Schuirmann 1987) of "the mean difference lies within the margin".

    Attributes:
        margin: Half width of what counts as equal.
        p_inside: The larger p of the two tests; at most alpha exactly when the 1 - 2 alpha interval lies
            inside the margins.
        p_outside: Evidence for a difference beyond the margin, on either side (Bonferroni).
    """

    margin: float
    p_inside: float
    p_outside: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and t interval of independent values, one a seed.

    Raises:
        ValueError: If there is no value, or one is not finite.
    """
    x = _values(values)
    mean, error = float(x.mean()), _standard_error(x)
    half = float(stdtrit(len(x) - 1, (1 + level) / 2)) * error if len(x) > 1 else math.nan
    return Interval(mean, mean - half, mean + half, len(x), level)


def paired_interval(a: ArrayLike, b: ArrayLike, threshold: float = 0.0, level: float = 0.95) -> Comparison:
    """Paired t interval and tests of a - b, the pairs being seeds.

    Args:
        a: (n,) values.
        b: (n,) values of the same seeds, in the same order.
        threshold: The tests ask whether the mean difference lies above or below it.
        level: Coverage of the interval.

    Raises:
        ValueError: If there are not as many of one as of the other, none, or one is not finite.
    """
    d = _differences(a, b)
    i = mean_interval(d, level)
    p = _p_above(d, threshold)
    return Comparison(i.mean, i.low, i.high, i.n, level, threshold, p, 1 - p)


def equivalence(a: ArrayLike, b: ArrayLike, margin: float, level: float = 0.95) -> Equivalence:
    """TOST of a and b on paired seeds.

    Args:
        a: (n,) values.
        b: (n,) values of the same seeds, in the same order.
        margin: Half width of what counts as equal, above 0.
        level: Coverage of the interval that stands beside.

    Raises:
        ValueError: If the margin is not above 0; else as `paired_interval`.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin of {margin} is impossible; allowed: above 0")
    low, high = paired_interval(a, b, -margin, level), paired_interval(a, b, margin, level)
    inside = max(low.p_above, high.p_below)
    outside = min(1.0, 2 * min(low.p_below, high.p_above)) if low.n > 1 else math.nan
    return Equivalence(low.mean, low.low, low.high, low.n, level, margin, inside, outside)


def sign_flip_p(differences: ArrayLike) -> float:
    """Exact two-sided p of the sign-flip test: how many of the 2^n sign patterns give a sum as large as the one seen.

    Needs symmetry about 0 alone, no normality. With n values it is never below 2^(1-n).

    Raises:
        ValueError: If there are no differences or more than 40.
    """
    d = _values(differences)
    if len(d) > MOST_FLIPPED:
        raise ValueError(f"{len(d)} differences are too many for an exact test; allowed: 1 to {MOST_FLIPPED}")
    slack = 1e-9 * np.abs(d).sum()  # equal sums may differ in their last bits
    left, right = _signed_sums(d[: len(d) // 2]), np.sort(_signed_sums(d[len(d) // 2 :]))
    seen = abs(d.sum())
    count = int((len(right) - np.searchsorted(right, seen - left - slack)).sum())
    return min(1.0, 2 * count / 2 ** len(d))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given (Holm 1979).

    NaN (not tested) stays NaN and does not count.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted


def _values(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"statistics need one finite value a seed, at least one; got {x.tolist()}")
    return x


def _differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    first, second = _values(a), _values(b)
    if first.shape != second.shape:
        raise ValueError(f"paired values must be of the same seeds; got {len(first)} and {len(second)}")
    return first - second


def _standard_error(x: np.ndarray) -> float:
    return float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.nan


def _p_above(d: np.ndarray, threshold: float) -> float:
    """One-sided p against "the mean is at most the threshold"."""
    if len(d) < 2:
        return math.nan
    gap, error = float(d.mean()) - threshold, _standard_error(d)
    if error <= 1e-12 * max(1.0, abs(gap)):  # the seeds agree to the last bit: no spread to test against
        return 0.5 if abs(gap) < 1e-12 else float(gap < 0)
    return float(stdtr(len(d) - 1, -gap / error))


def _signed_sums(x: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums + value, sums - value])
    return sums
