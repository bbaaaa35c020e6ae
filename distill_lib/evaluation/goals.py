"""What a defence is to reach in each cell, and not on average, to be called clean at no loss.

Stated before any search: the upper end of the 95 % interval of ASR - placebo ASR is at most 5 points; triggered images
are given their true label as often as by the clean encoder, less 3 points; so are clean images, less 2 points. Where
the attack did not take there is nothing to clean, and no goal is met or missed; nor on fewer seeds than the claims
need.
"""

import math

import pandas as pd

from distill_lib.evaluation.cells import SCOPE
from distill_lib.evaluation.claims import load_claims
from distill_lib.evaluation.statistics import mean_interval
from distill_lib.evaluation.verdicts import NOT_PLANTED, took

MOST_ASR = 5.0  # points of ASR above the placebo's, at the upper end of the interval
LEAST_TRIGGERED, LEAST_ACC = -3.0, -2.0  # points against the clean encoder
RATES = ["acc", "asr", "placebo_asr", "triggered_acc"]


def goals(
    defended: pd.DataFrame, clean: pd.DataFrame, attacked: pd.DataFrame, least_seeds: int | None = None
) -> pd.DataFrame:
    """Hold a defence's rows against the goals, cell by cell.

    Args:
        defended: One row a seed and downstream set, with the result table's columns.
        clean: The clean encoder's rows of the same seeds and sets.
        attacked: The attacked encoder's.
        least_seeds: With fewer, nothing is decided; None: as for the claims.

    Returns:
        Columns: pretrain, attack, downstream, `n` seeds, the seeds that the attack is `planted` on and of how many,
        `asr_over_placebo` with `high` (NaN for one seed), `triggered_acc` and `acc` as differences from the clean
        encoder, `met`: yes, no, undecided (n = ...), or, by the rule of the verdicts, not planted.
    """
    scope, least = list(SCOPE), load_claims().least_seeds if least_seeds is None else least_seeds
    both = defended.merge(clean, on=[*scope, "seed"], suffixes=("", "_clean"), validate="one_to_one")
    rows = []
    for place, group in both.groupby(scope, sort=False):
        above = mean_interval(group["asr"] - group["placebo_asr"])
        lost = {name: (group[name] - group[f"{name}_clean"]).mean() for name in ("triggered_acc", "acc")}
        about = dict(zip(scope, place, strict=True))
        attack = took(_of(clean, about), _of(attacked, about))
        met = (
            NOT_PLANTED
            if not attack.planted
            else _met(above.high, **lost)
            if above.n >= least
            else f"undecided (n = {above.n})"
        )
        about |= {"n": above.n, "planted": f"{attack.on} of {attack.n}"}
        rows.append({**about, "asr_over_placebo": above.mean, "high": above.high, **lost, "met": met})
    return pd.DataFrame(rows)


def _of(rows: pd.DataFrame, scope: dict[str, str]) -> pd.DataFrame:
    return rows[(rows[list(scope)] == pd.Series(scope)).all(axis=1)]


def _met(high: float, triggered_acc: float, acc: float) -> str:
    return "yes" if triggered_acc >= LEAST_TRIGGERED and acc >= LEAST_ACC and high <= MOST_ASR else "no"


def shortfall(defended: pd.DataFrame, clean: pd.DataFrame, attacked: pd.DataFrame) -> float:
    """Points by which the worst cell misses its goals, without intervals: what a search makes small; 0 where none does.

    Cells whose attack did not take are left out; NaN where none took.

    Args:
        defended: As in `goals`.
        clean: As in `goals`.
        attacked: As in `goals`.
    """
    found = goals(defended, clean, attacked)
    found = found[found["met"] != NOT_PLANTED]
    missed = pd.concat(
        [found["asr_over_placebo"] - MOST_ASR, LEAST_TRIGGERED - found["triggered_acc"], LEAST_ACC - found["acc"]]
    )
    return max(0.0, float(missed.max())) if len(found) else math.nan
