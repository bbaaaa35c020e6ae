"""Verdicts: each claim of the protocol, judged on the result table, scope by scope."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from distill_lib.evaluation.cells import by_seed, scopes, tidy
from distill_lib.evaluation.claims import Claim, Part, Protocol, load_claims
from distill_lib.evaluation.statistics import (
    MOST_FLIPPED,
    equivalence,
    holm,
    mean_interval,
    paired_interval,
    sign_flip_p,
)

FULL_ASR, FULL_ACC = 80.0, -3.0  # a full attack: percent, points of ACC against the clean encoder, written beforehand
NOT_PLANTED = "not planted"
NOT_TRANSFERRED = "not transferred"
SYMBOLS = {"acc": "ACC", "asr": "ASR", "asr_all": "ASR (all)", "triggered_acc": "triggered ACC"}


@dataclass(frozen=True)
class Planting:
    """Whether an attack took.

    Attributes:
        asr: Mean over seeds of the attacked encoder, percent.
        floor: What triggers do without a backdoor: the larger of the clean encoder's mean ASR with the
            trigger and the attacked encoder's with the placebo; NaN where neither was measured.
        n: Seeds of the attacked encoder.
        planted: Whether asr is at least the floor + `Protocol.planted` points.
        on: Seeds whose own ASR is; the others stay in every mean.
    """

    asr: float
    floor: float
    n: int
    planted: bool
    on: int


@dataclass(frozen=True)
class Verdict:
    """One claim in one scope.

    Attributes:
        claim: Its id.
        sentence: The claim in words.
        pretrain: Scope.
        attack: Scope.
        downstream: Scope.
        target: Target class, or `per seed` where the attack finds it.
        verdict: `supported`, `refuted`, `undecided (n = ...)`, `not planted` or `not transferred`.
        comparison: The comparison that decides (the weakest one), in words; the effect and what follows are
            its.
        effect: Mean difference over the seeds, percentage points; above 0 speaks for the claim's cell.
        low: Lower end of the t interval; NaN below the least number of seeds.
        high: Upper end.
        threshold: What the effect must exceed.
        n: Seeds that have every cell of the claim.
        seeds: Those seeds.
        p: Two-sided p of the claim after Holm's correction over the scope's claims; NaN where nothing was
            tested.
        sign_flip_p: Exact two-sided sign-flip p of the comparison, uncorrected; stands beside.
        effect_acc: The mean difference in ACC alone, without a ratio's factor.
        effect_asr: The same in ASR.
        points: The differences, one a seed.
        note: What is missing, or why there is no verdict.
    """

    claim: str
    sentence: str
    pretrain: str
    attack: str
    downstream: str
    target: str
    verdict: str
    comparison: str = ""
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    threshold: float = math.nan
    n: int = 0
    seeds: tuple[int, ...] = ()
    p: float = math.nan
    sign_flip_p: float = math.nan
    effect_acc: float = math.nan
    effect_asr: float = math.nan
    points: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class _Tested:
    """A comparison of one cell with one rival: its evidence for and against, and how it is shown."""

    part: Part
    rival: str
    points: np.ndarray
    threshold: float
    p_for: float
    p_against: float
    effect_acc: float
    effect_asr: float

    @property
    def lead(self) -> float:
        """How far the effect lies on the claim's side of the threshold."""
        effect = float(self.points.mean())
        return self.threshold - abs(effect) if self.part.test == "equivalence" else effect - self.threshold


def verdicts(table: pd.DataFrame, protocol: Protocol | None = None) -> pd.DataFrame:
    """Judge every claim in every scope of distillation.csv.

    Seeds from 100 up are explorations and left out. Fewer than `least_seeds` seeds decide nothing. An attack
    that is not planted gets no verdict.

    Args:
        table: distillation.csv.
        protocol: None: `claims.toml`.

    Returns:
        One row a scope and claim, with the columns of `Verdict`.
    """
    protocol = protocol or load_claims()
    rows = [row for scope, part in scopes(tidy(table)) for row in _judge_scope(scope, part, protocol)]
    return pd.DataFrame([asdict(row) for row in rows], columns=list(Verdict.__dataclass_fields__))


def judge(scope: Mapping[str, str], table: pd.DataFrame, protocol: Protocol) -> list[Verdict]:
    """Judge every claim on the rows of one scope, whatever was planted there.

    Args:
        scope: `pretrain`, `attack`, `downstream` and `target`, for the verdicts.
        table: Reported rows with `seed`, `acc`, `asr` and the columns that the protocol's cells name.
        protocol: The claims.
    """
    return _decide([_measure(claim, scope, table, protocol) for claim in protocol.claims], protocol)


def planting(table: pd.DataFrame, protocol: Protocol | None = None) -> Planting:
    """Whether the attack of one scope (rows of a tidy table) took."""
    protocol = protocol or load_claims()
    clean, attacked = (by_seed(table, protocol.cells[name]) for name in ("clean", "attacked"))
    return took(clean, attacked, protocol)


def took(clean: pd.DataFrame, attacked: pd.DataFrame, protocol: Protocol | None = None) -> Planting:
    """The same from one scope's rows of the clean and of the attacked encoder."""
    protocol = protocol or load_claims()
    floors = [values.dropna().mean() for values in (clean["asr"], attacked["placebo_asr"])]
    floor = max((float(f) for f in floors if not math.isnan(f)), default=math.nan)
    asr, least = float(attacked["asr"].mean()), floor + protocol.planted
    return Planting(asr, floor, len(attacked), asr >= least, int((attacked["asr"] >= least).sum()))


def acceptance(table: pd.DataFrame, protocol: Protocol | None = None) -> pd.DataFrame:
    """How each attack of distillation.csv stands to its acceptance band.

    Returns:
        One row a scope: the scope, the columns of `Planting`, `acc_change` (points against the clean encoder, paired by
        seed) and `full`, whether the attack is planted, has an ASR of 80 % or more and costs at most 3 points.
    """
    rows = []
    for scope, part in scopes(tidy(table)):
        clean, attacked = (by_seed(part, {"stage": stage}) for stage in ("clean", "attacked"))
        found, change = took(clean, attacked, protocol), float((attacked["acc"] - clean["acc"]).mean())
        full = found.planted and found.asr >= FULL_ASR and change >= FULL_ACC
        rows.append({**scope, **asdict(found), "acc_change": change, "full": full})
    return pd.DataFrame(rows)


def _judge_scope(scope: Mapping[str, str], table: pd.DataFrame, protocol: Protocol) -> list[Verdict]:
    found = planting(table, protocol)
    known = found.n > 0 and not math.isnan(found.floor)
    if known and not found.planted:
        note = f"ASR {found.asr:.1f} % is below the floor of {found.floor:.1f} % + {protocol.planted:g} points"
        return [Verdict(c.id, c.sentence, **scope, verdict=NOT_PLANTED, n=found.n, note=note) for c in protocol.claims]
    if known:
        note = f"planted on {found.on} of {found.n} seeds" if found.on < found.n else ""
        return [_noted(row, note) for row in judge(scope, table, protocol)]
    measured = [_measure(claim, scope, table, protocol) for claim in protocol.claims]
    note = "the floor was not measured" if found.n else "the attacked encoder was not measured"
    return [_noted(row, note) for row, _ in measured]


def _noted(row: Verdict, note: str) -> Verdict:
    return replace(row, note="; ".join(filter(None, [note, row.note])))


def _measure(claim: Claim, scope: Mapping[str, str], table: pd.DataFrame, protocol: Protocol):
    """The claim's row before the correction over claims, and its p values for and against (NaN: none to be had)."""
    row, chances = _test(claim, scope, table, protocol)
    idle = _not_transferred(claim, table, protocol)
    if not idle:
        return row, chances
    note = "; ".join(filter(None, [row.note, *idle]))
    return replace(row, verdict=NOT_TRANSFERRED, note=note), (math.nan, math.nan)


def _not_transferred(claim: Claim, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Of each cell that the claim wants defended and in which no backdoor arrived, how far it is above the floor."""
    found = []
    for part in claim.parts:
        for name in part.against if part.floor else ():
            asr, floor = (by_seed(table, protocol.cells[cell])["asr"].mean() for cell in (name, part.floor))
            if asr < floor + protocol.planted:  # False where one was not measured
                words = f"{name}: ASR {asr:.1f} % is below {part.floor}'s {floor:.1f} % + {protocol.planted:g} points"
                found.append(words)
    return list(dict.fromkeys(found))


def _test(claim: Claim, scope: Mapping[str, str], table: pd.DataFrame, protocol: Protocol):
    """The claim's row and p values (NaN: too few seeds), whatever arrived in the students."""
    names = list(dict.fromkeys(name for part in claim.parts for name in (part.cell, *part.against)))
    cells = {name: by_seed(table, protocol.cells[name]) for name in names}
    seeds = sorted(set.intersection(*(set(rows.index) for rows in cells.values())))
    missing = [name for name, rows in cells.items() if rows.empty]
    row = Verdict(
        claim.id,
        claim.sentence,
        **scope,
        verdict=f"undecided (n = {len(seeds)})",
        n=len(seeds),
        seeds=tuple(seeds),
        note=f"not measured: {', '.join(missing)}" if missing else "",
    )
    if not seeds:
        return row, (math.nan, math.nan)
    cells = {name: rows.loc[seeds] for name, rows in cells.items()}
    tests = [test for part in claim.parts for test in _compare(part, cells)]
    enough = len(seeds) >= protocol.least_seeds
    row = _describe(row, min(tests, key=lambda t: (-t.p_for if enough else 0, t.lead)), protocol, enough)
    if not enough:
        return row, (math.nan, math.nan)
    # All comparisons must hold: the largest p. One reversed refutes the claim: the smallest, times their
    # number.
    return row, (max(t.p_for for t in tests), min(1.0, len(tests) * min(t.p_against for t in tests)))


def _compare(part: Part, cells: Mapping[str, pd.DataFrame]) -> list[_Tested]:
    tests = []
    ours = cells[part.cell]
    for rival in part.against:
        theirs = cells[rival]
        points = _quantity(part, ours) - part.factor * _quantity(part, theirs)
        threshold = -part.margin if part.test == "no worse" else part.margin
        if part.test == "equivalence":
            result = equivalence(points, np.zeros_like(points), part.margin)
            p_for, p_against = result.p_inside, result.p_outside
        else:
            result = paired_interval(points, np.zeros_like(points), threshold)
            p_for, p_against = result.p_above, result.p_below
        gains = [float((ours[column] - theirs[column]).mean()) for column in ("acc", "asr")]
        tests.append(_Tested(part, rival, points, threshold, p_for, p_against, *gains))
    return tests


def _quantity(part: Part, rows: pd.DataFrame) -> np.ndarray:
    return sum(weight * rows[column].to_numpy(float) for column, weight in part.quantity.items())


def _describe(row: Verdict, test: _Tested, protocol: Protocol, enough: bool) -> Verdict:
    interval = mean_interval(test.points, protocol.level)
    flips = enough and len(test.points) <= MOST_FLIPPED and test.part.test != "equivalence"
    return replace(
        row,
        comparison=_words(test.part, test.rival),
        effect=interval.mean,
        low=interval.low if enough else math.nan,
        high=interval.high if enough else math.nan,
        threshold=test.threshold,
        sign_flip_p=sign_flip_p(test.points - test.threshold) if flips else math.nan,
        effect_acc=test.effect_acc,
        effect_asr=test.effect_asr,
        points=tuple(test.points.tolist()),
    )


def _words(part: Part, rival: str) -> str:
    """`ACC - ASR: recipe minus 0.5 x attacked`."""
    terms = [("- " if weight < 0 else "+ ") + SYMBOLS.get(c, c) for c, weight in part.quantity.items()]
    factor = "" if part.factor == 1 else f"{part.factor:g} x "
    return f"{' '.join(terms).removeprefix('+ ')}: {part.cell} minus {factor}{rival}"


def _decide(measured: list, protocol: Protocol) -> list[Verdict]:
    """Holm over the scope's claims, for and against separately, each one-sided at half of 1 - level."""
    alpha = (1 - protocol.level) / 2
    supports = holm([p for _, (p, _) in measured])
    reversals = holm([p for _, (_, p) in measured])
    rows = []
    for (row, _), p_for, p_against in zip(measured, supports, reversals, strict=True):
        if math.isnan(p_for):
            rows.append(row)
            continue
        verdict = "supported" if p_for <= alpha else "refuted" if p_against <= alpha else row.verdict
        rows.append(replace(row, verdict=verdict, p=min(1.0, 2 * min(p_for, p_against))))
    return rows
