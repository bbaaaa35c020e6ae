"""How well a score tells attacked encoders from clean ones: ROC, AUC, thresholds from clean encoders alone.

A lower score is the more suspicious one throughout, as in trigger inversion.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, stdtrit

FEWEST_CLEAN = 3  # clean scores below which no threshold is drawn


@dataclass(frozen=True)
class AUC:
    """Area under the ROC with a percentile interval of a bootstrap.

    Attributes:
        value: Chance that an attacked encoder scores lower than a clean one, ties counted half.
        low: Lower end of the interval.
        high: Upper end. Where no two scores overlap every draw is 1, and so are both ends: read n then.
        clean: Number of clean scores.
        attacked: Number of attacked scores.
        groups: Number of independent groups drawn.
        level: Coverage, two-sided.
    """

    value: float
    low: float
    high: float
    clean: int
    attacked: int
    groups: int
    level: float


@dataclass(frozen=True)
class Threshold:
    """Below which score an encoder is called suspicious.

    Attributes:
        value: The threshold.
        rate: Share of clean encoders that it is meant to flag.
        n: Clean scores that it was drawn from.
    """

    value: float
    rate: float
    n: int

    def flags(self, score: float) -> bool:
        """Whether a score is suspicious."""
        return score < self.value


@dataclass(frozen=True)
class Share:
    """A share with its exact interval (Clopper and Pearson 1934).

    Attributes:
        hits: Of n.
        n: How many.
        low: Lower end, 0 to 1.
        high: Upper end.
    """

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0 to 1; NaN of nothing."""
        return self.hits / self.n if self.n else math.nan


def roc(clean: ArrayLike, attacked: ArrayLike) -> tuple[list[float], list[float]]:
    """False-positive and true-positive rate, from no encoder flagged to all, one point a score.

    Raises:
        ValueError: If a side is empty or a score is not finite.
    """
    low, high = _scores(clean), _scores(attacked)
    levels = np.unique(np.concatenate([low, high]))
    rates = [np.searchsorted(np.sort(each), levels, "right") / len(each) for each in (low, high)]
    false, true = ([0.0, *each.tolist()] for each in rates)
    return false, true


def auc(clean: ArrayLike, attacked: ArrayLike) -> float:
    """Area under that curve (the Mann-Whitney statistic)."""
    below, above = _scores(attacked)[:, None], _scores(clean)[None]
    return float(((below < above) + 0.5 * (below == above)).mean())


def auc_interval(
    clean: ArrayLike,
    attacked: ArrayLike,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> AUC:
    """AUC with a bootstrap interval over independent groups of scores.

    An attacked encoder that was made from a clean one is no new encoder: what shares a seed is drawn together. Draws
    without a clean or without an attacked score are left out.

    Args:
        clean: (n,) scores.
        attacked: (m,) scores.
        groups: Of each clean and of each attacked score; None: each score is one of its own.
        level: Coverage.
        draws: Of the bootstrap.
        seed: Of the draws.
    """
    both = _scores(clean), _scores(attacked)
    names = groups or (range(len(both[0])), range(len(both[0]), len(both[0]) + len(both[1])))
    if [len(each) for each in names] != [len(each) for each in both]:
        raise ValueError("each score needs the name of its group")
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*names[0], *names[1]]))}
    member = [np.array([numbers[name] for name in each]) for each in names]
    weights = _draws(len(numbers), draws, seed)
    wins = (both[1][:, None] < both[0][None]) + 0.5 * (both[1][:, None] == both[0][None])  # (m, n)
    first, second = weights[:, member[1]], weights[:, member[0]]  # how often each score was drawn: (draws, m), (., n)
    pairs = first.sum(1) * second.sum(1)
    areas = np.einsum("dm,mn,dn->d", first, wins, second)[pairs > 0] / pairs[pairs > 0]
    ends = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2]) if len(areas) else [math.nan] * 2
    return AUC(auc(*both), *map(float, ends), *map(len, both), len(numbers), level)


def threshold(clean: ArrayLike, rate: float = 0.05) -> Threshold:
    """The lower prediction limit of one more clean score.

    Scores above 0 are taken as log-normal: of a normal sample's mean and sd, a new value lies below
    mean + t sd sqrt(1 + 1/n) with chance `rate`, t the quantile of Student's t with n - 1 degrees of freedom.

    Raises:
        ValueError: If there are fewer than 3 scores, one is not above 0, or the rate is not between 0 and 1.
    """
    x = _scores(clean)
    if len(x) < FEWEST_CLEAN or not (x > 0).all() or not 0 < rate < 1:
        raise ValueError(
            f"a threshold for a rate of {rate} needs {FEWEST_CLEAN} or more clean scores above 0; got {x.tolist()}"
        )
    logs, n = np.log(x), len(x)
    below = float(stdtrit(n - 1, rate)) * float(logs.std(ddof=1)) * math.sqrt(1 + 1 / n)
    return Threshold(math.exp(float(logs.mean()) + below), rate, n)


def share(hits: int, n: int, level: float = 0.95) -> Share:
    """A share and its exact interval; of nothing, everything is possible."""
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Share(hits, n, low, high)


def _scores(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"scores must be finite and one at least; got {x.tolist()}")
    return x


def _draws(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often each group is drawn: (draws, groups), each row sums to `groups`."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), draws).astype(float)
