"""The data-free study's claims and its table beside the published one, by the same tests as the first study's."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.evaluation.claims import Protocol, load_claims
from distill_lib.evaluation.published import load_published
from distill_lib.evaluation.verdicts import verdicts

COLUMNS = (
    "attack", "stage", "method", "defence", "dataset", "published_acc", "acc", "published_asr", "asr", "n", "note",
)  # fmt: skip
# The first study's columns in which the data-free ones are judged: a scope there names a downstream set, a cell a loss.
AS = {"dataset": "pretrain", "method": "loss"}


def verdicts_datafree(table: pd.DataFrame, protocol: Protocol | None = None) -> pd.DataFrame:
    """Judge every data-free claim for every data set and attack.

    Args:
        table: datafree.csv.
        protocol: None: the file's.

    Returns:
        As `verdicts`, with `dataset` in the place of `pretrain` and without `downstream`.
    """
    protocol = protocol or load_claims(study="datafree")
    cells = {name: {AS.get(c, c): value for c, value in cell.items()} for name, cell in protocol.cells.items()}
    rows = table.rename(columns=AS).assign(downstream=table["dataset"], teacher="", student="")
    found = verdicts(rows, replace(protocol, cells=cells))
    return found.rename(columns={"pretrain": "dataset"}).drop(columns="downstream")


def table_one(table: pd.DataFrame, setup: str) -> pd.DataFrame:
    """Every published number of the data-free study, ours beside it: means over the reported seeds.

    Args:
        table: datafree.csv.
        setup: What this profile does, in words.

    Returns:
        One row a published cell of an attack that is in the table; `acc`, `asr` are empty where ours was not measured.
    """
    seeds = pd.to_numeric(table["seed"])
    table = table[seeds < EXPLORATION_SEEDS]
    rows = [_row(cell, note, values, table, setup) for cell, (note, values) in _published().items()]
    rows = [row for row in rows if row["attack"] in set(table["attack"])]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def published_variants() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Attack -> method -> variant of the defence -> published ACC and ASR."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (attack, method, defence), (_, values) in _published().items():
        if method:
            found.setdefault(attack, {}).setdefault(method, {})[defence] = [values["acc"], values["asr"]]
    return found


def _published() -> dict[tuple[str, str, str], tuple[str, dict[str, float]]]:
    """(attack, method, defence) -> note and rates; a teacher has no method."""
    cells: dict[tuple[str, str, str], tuple[str, dict[str, float]]] = {}
    for name, number in load_published().items():
        study, *rest = name.split(".")
        if study == "abd" and len(rest) > 2:
            attack, *cell, rate = rest
            method, defence = ("", "none") if cell == ["teacher"] else cell
            cells.setdefault((attack, method, defence), (number.note, {}))[1][rate] = number.value
    return cells


def _row(cell: tuple[str, str, str], note: str, values: Mapping[str, float], table: pd.DataFrame, setup: str) -> dict:
    attack, method, defence = cell
    stage = "student" if method else "teacher"
    wanted = {"attack": attack, "stage": stage, "method": method, "defence": defence}
    keep = pd.Series(True, index=table.index)
    for column, value in wanted.items():
        keep &= table[column].fillna("") == value
    found = table[keep]
    rates = {rate: pd.to_numeric(found[rate]).mean() for rate in ("acc", "asr")}
    about = {"dataset": ", ".join(sorted(set(found["dataset"]))), "n": found["seed"].nunique()}
    theirs = {f"published_{rate}": values[rate] for rate in rates}
    return {**wanted, **about, **theirs, **rates, "note": f"theirs: {note}; ours: {setup}"}
