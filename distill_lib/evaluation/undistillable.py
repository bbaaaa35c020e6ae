"""Undistillable teachers: claims, the table of students, what a defence costs its owner and what it costs the thief."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.evaluation.claims import Claim, Protocol, load_claims
from distill_lib.evaluation.statistics import Interval, mean_interval
from distill_lib.evaluation.verdicts import Verdict, judge

STUDENTS = (
    "dataset", "student", "thief", "teacher", "acc", "low", "high", "n", "agreement", "control", "to_alone",
    "to_smoothed",
)  # fmt: skip
TRADES = ("dataset", "student", "teacher", "seed", "teacher_acc", "student_acc", "teacher_loss", "student_loss")
LEAST_FOR_INTERVAL = 3
NORMAL = "normal"
USUAL = {"to_alone": "alone", "to_smoothed": "label_smoothing"}
# Thieves whose control is another: one that asked nobody and is like them otherwise. With a tenth of the images or with
# extra heads nobody is like `alone`, and without labels there is no control at all.
CONTROLS = {
    "kd_part": {"to_alone": "alone_part", "to_smoothed": ""},
    "skeptical": {"to_alone": "skeptical_alone", "to_smoothed": ""},
    "kd_other": {"to_alone": "", "to_smoothed": ""},
    "data_free": {"to_alone": "", "to_smoothed": ""},
}


def controls_of(thief: str) -> dict[str, str]:
    """Who asked nobody and is otherwise like a thief, by column of `students_table`; empty: there is none."""
    return CONTROLS.get(thief, USUAL)


def verdicts_undistillable(
    table: pd.DataFrame, protocol: Protocol | None = None, exploring: bool = False
) -> pd.DataFrame:
    """Judge every claim on undistillable teachers for every data set and student network.

    Nothing is planted here, so nothing can be "not planted"; where a KD student of the normal teacher is on average no
    better than one trained alone, the note says so: what a defence took from such a thief was worth nothing.

    Args:
        table: undistillable.csv.
        protocol: None: the file's.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.

    Returns:
        As `verdicts`, with `dataset` and `student` in the place of the scope, and without what is said of ASR.
    """
    protocol = protocol or load_claims(study="undistillable")
    rows = reported(table, exploring)
    parts = []
    for dataset, student in _networks(rows):
        own = rows[(rows["dataset"] == dataset) & rows["student"].isin(("", student))].assign(asr=math.nan)
        scope = {"pretrain": dataset, "attack": student, "downstream": dataset, "target": ""}
        for verdict, claim in zip(judge(scope, own, protocol), protocol.claims, strict=True):
            parts.append(replace(verdict, note=_worthless(verdict.note, claim, own, protocol)))
    found = pd.DataFrame(parts, columns=list(Verdict.__dataclass_fields__))
    names = {"pretrain": "dataset", "attack": "student"}
    return found.rename(columns=names).drop(columns=["downstream", "target", "effect_asr"])


def _worthless(note: str, claim: Claim, rows: pd.DataFrame, protocol: Protocol) -> str:
    """A claim's note, with the thieves in it that have nothing of the normal teacher, either."""
    asked = {protocol.cells[name].get("thief") for part in claim.parts for name in (part.cell, *part.against)}
    said = [note] if note else []
    for thief in sorted(asked - {None, "", *USUAL.values()}):
        taken = rows[(rows["thief"] == thief) & (rows["teacher"] == NORMAL)]
        stake = _lead(taken, rows[rows["thief"] == controls_of(thief)["to_alone"]])
        if stake <= 0:
            said.append(f"no theft to defend against: {thief} from the normal teacher {stake:+.1f} against alone")
    return "; ".join(said)


def students_table(table: pd.DataFrame, exploring: bool = False) -> pd.DataFrame:
    """Every student: mean accuracy with its interval, and how far it is from those that never asked a teacher.

    Args:
        table: undistillable.csv.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.

    Returns:
        One row a data set, network, thief and teacher; `low` and `high` from 3 seeds on, `agreement` a mean, `to_alone`
        and `to_smoothed` mean differences in points, over the seeds that both have, to those who asked nobody
        (`controls_of`; `control` names the former): what is above 0 in both was stolen. NaN where there is none.
    """
    rows = reported(table, exploring)
    students, found = rows[rows["stage"] == "student"], []
    for (dataset, student, thief, teacher), own in students.groupby(list(STUDENTS[:4]), sort=False):
        interval, peers = interval_of(own["acc"]), students[students["student"] == student]
        peers = peers[peers["dataset"] == dataset]
        row = dict(zip(STUDENTS[:4], (dataset, student, thief, teacher), strict=True))
        row |= {"acc": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
        controls = controls_of(thief)
        lead = {name: _lead(own, peers[peers["thief"] == control]) for name, control in controls.items()}
        found.append({**row, "agreement": own["agreement"].mean(), "control": controls["to_alone"], **lead})
    return pd.DataFrame(found, columns=list(STUDENTS))


def trades(table: pd.DataFrame, thief: str = "kd", exploring: bool = False) -> pd.DataFrame:
    """What each teacher that resists costs its owner and the thief, against the normal one of the same seed.

    Args:
        table: undistillable.csv.
        thief: Whose damage it is.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.

    Returns:
        One row a data set, student network, teacher and seed; losses in points.
    """
    rows = reported(table, exploring)
    taught = rows[rows["stage"] == "teacher"][["dataset", "teacher", "seed", "acc"]]
    robbed = rows[rows["thief"] == thief][["dataset", "student", "teacher", "seed", "acc"]]
    both = robbed.merge(taught, on=["dataset", "teacher", "seed"], suffixes=("_student", "_teacher"))
    both = both.rename(columns={"acc_student": "student_acc", "acc_teacher": "teacher_acc"})
    keys = ["dataset", "student", "seed"]
    usual = both[both["teacher"] == NORMAL][[*keys, "student_acc", "teacher_acc"]]
    both = both[both["teacher"] != NORMAL].merge(usual, on=keys, suffixes=("", "_normal"))
    for side in ("teacher", "student"):
        both[f"{side}_loss"] = both[f"{side}_acc_normal"] - both[f"{side}_acc"]
    return both[list(TRADES)].reset_index(drop=True)


def stakes_of(table: pd.DataFrame, thief: str = "kd", exploring: bool = False) -> pd.DataFrame:
    """What a thief has of the normal teacher, above a student that asked nobody: the most a defence can take away.

    Args:
        table: undistillable.csv.
        thief: Whose gain it is.
        exploring: Whether exploration seeds are asked for, in the place of reported ones.

    Returns:
        One row a data set, student network and seed; `stake` in points of accuracy, below 0 where a copy of the normal
        teacher is the worse of the two: there is no theft to defend against.
    """
    rows, keys = reported(table, exploring), ["dataset", "student", "seed"]
    taken = rows[(rows["thief"] == thief) & (rows["teacher"] == NORMAL)]
    alone = rows[rows["thief"] == controls_of(thief)["to_alone"]]
    both = taken.merge(alone, on=keys, suffixes=("", "_alone"))
    return both.assign(stake=both["acc"] - both["acc_alone"])[[*keys, "stake"]]


def interval_of(values: Iterable[float]) -> Interval:
    """Mean and 95 % t interval, whose ends are NaN below 3 seeds."""
    found = mean_interval(list(values))
    if found.n >= LEAST_FOR_INTERVAL:
        return found
    return Interval(found.mean, math.nan, math.nan, found.n, found.level)


def _lead(own: pd.DataFrame, control: pd.DataFrame) -> float:
    """Mean difference in accuracy over the seeds of both; NaN where there are none."""
    both = own.set_index("seed")["acc"] - control.set_index("seed")["acc"]
    return float(both.mean())


def reported(table: pd.DataFrame, exploring: bool = False) -> pd.DataFrame:
    """Rows of undistillable.csv at reported seeds, or at exploration seeds; text without gaps, numbers as numbers."""
    names = ["stage", "teacher", "student", "thief"]
    rows = table.astype(dict.fromkeys(names, object)).fillna(dict.fromkeys(names, ""))
    rows = rows.assign(**{name: pd.to_numeric(rows[name]) for name in ("seed", "acc", "agreement")})
    return rows[(rows["seed"] >= EXPLORATION_SEEDS) == exploring].astype({"seed": int})


def _networks(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Data set and network of every student, in order."""
    students = rows[rows["stage"] == "student"]
    return list(dict.fromkeys(zip(students["dataset"], students["student"], strict=True)))
