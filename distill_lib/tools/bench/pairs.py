"""Timing in interleaved pairs: whatever else the machine does, it does to both sides of a ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Run = Callable[[int], float]  # so many steps, warm-up beside them -> seconds a step
# A training reports this often, and every second. The clock starts at the first report: what comes before is warm-up.
PARTS = 4


@dataclass(frozen=True)
class Budget:
    """How long one measurement takes.

    Attributes:
        seconds: For all its rounds together; what starts a side (workers, first steps) comes on top.
        rounds: How often each side is timed.
    """

    seconds: float
    rounds: int


@dataclass(frozen=True)
class Ratio:
    """A row of the result.

    Attributes:
        name: Of the measurement.
        ratio: Median over the pairs.
        low: Their lower quartile.
        high: Their upper quartile.
        pairs: How many.
        unit: What was divided by what.
    """

    name: str
    ratio: float
    low: float
    high: float
    pairs: int
    unit: str


@dataclass(frozen=True)
class Contest:
    """Two sides, and what their quotient is.

    Attributes:
        first: Seconds a step above the line.
        second: Seconds a step below it.
        unit: What the quotient is.
        scale: Factor on the quotient.
        least: Fewest steps in a round, of the first and the second.
    """

    first: Run
    second: Run
    unit: str
    scale: float = 1.0
    least: tuple[int, int] = (2, PARTS)


class Side:
    """One side of a comparison, asked for a time and giving a speed.

    Args:
        run: Does the steps.
        least: Fewest steps in a round.
    """

    def __init__(self, run: Run, least: int = 1):
        self.run, self.least = run, least
        self.estimate = 0.0  # seconds a step, from the round before

    def __call__(self, seconds: float) -> float:
        """Seconds a step, over as many steps as fit into so many seconds."""
        steps = max(self.least, int(seconds / self.estimate)) if self.estimate > 0 else self.least
        self.estimate = self.run(steps)
        return self.estimate


def rounds(sides: Sequence[Side], budget: Budget) -> np.ndarray:
    """Seconds a step (rounds, sides), the sides' order turned round each time.

    A first, short round is thrown away: it finds the sides' speed and fills caches.
    """
    share = budget.seconds / budget.rounds / len(sides)
    for side in sides:
        side(0.0)
    times = np.empty((budget.rounds, len(sides)))
    for row in range(budget.rounds):
        places = range(len(sides)) if row % 2 == 0 else reversed(range(len(sides)))
        for place in places:
            times[row, place] = sides[place](share)
    return times


def ratio_of(name: str, times: np.ndarray, unit: str, scale: float = 1.0) -> Ratio:
    """Median and quartiles of scale x first / second.

    Args:
        name: Of the row.
        times: (pairs, 2), from `rounds`.
        unit: What the ratio is.
        scale: Work of a second step in first steps, where they differ.
    """
    low, middle, high = np.quantile(scale * times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    return Ratio(name, float(middle), float(low), float(high), len(times), unit)
