"""From the tidy table to the few numbers that a figure draws."""

import math
from typing import Any

import numpy as np
import pandas as pd

from distill_lib.evaluation.cells import by_seed
from distill_lib.evaluation.statistics import mean_interval

LEAST_FOR_INTERVAL = 3


def series(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """One cell's measurements: seeds, values, mean, interval (None below 3 seeds), n.

    Args:
        rows: The cell's rows, indexed by seed.
        column: Which rate.
    """
    values = rows[column].astype(float).dropna()
    if values.empty:
        return {"seeds": [], "values": [], "mean": None, "low": None, "high": None, "n": 0}
    i = mean_interval(values.to_numpy())
    low, high = (i.low, i.high) if i.n >= LEAST_FOR_INTERVAL else (None, None)
    seeds = [int(seed) for seed in values.index]
    return {"seeds": seeds, "values": values.tolist(), "mean": i.mean, "low": low, "high": high, "n": i.n}


def both(rows: pd.DataFrame, cell: dict[str, str]) -> dict[str, Any]:
    """`acc` and `asr` of one cell within one scope."""
    found = by_seed(rows, cell)
    return {"acc": series(found, "acc"), "asr": series(found, "asr")}


def anchors(rows: pd.DataFrame) -> dict[str, Any]:
    """The clean and the attacked encoder of one scope."""
    return {stage: both(rows, {"stage": stage}) for stage in ("clean", "attacked")}


def counts(numbers: Any) -> list[int]:
    """The n of every series inside, those of 0 left out."""
    if isinstance(numbers, dict):
        if "mean" in numbers and "n" in numbers:
            return [numbers["n"]] if numbers["n"] else []
        return [n for value in numbers.values() for n in counts(value)]
    return [n for value in numbers for n in counts(value)] if isinstance(numbers, list) else []


def plain(value: Any) -> Any:
    """JSON values only: arrays become lists, NaN becomes None; what is drawn is what is written."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
