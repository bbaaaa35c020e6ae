"""A profile's tables as a page shows them: rows of text, from the CSV files that the study wrote."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from distill_lib.evaluation.cells import CELL, EXPLORATION_SEEDS, pick, scopes, tidy
from distill_lib.evaluation.claims import load_claims
from distill_lib.evaluation.datafree import verdicts_datafree
from distill_lib.evaluation.undistillable import students_table, verdicts_undistillable
from distill_lib.evaluation.verdicts import acceptance, verdicts
from distill_lib.plots.style import name, scope_title

RATES = {"acc": "ACC", "asr": "ASR", "placebo_asr": "placebo ASR", "triggered_acc": "triggered ACC",
         "target_rate": "target rate"}  # fmt: skip
NEEDED = ("stage", "seed", "acc")
NUMBERS = ("seed", "acc", "asr", "asr_all", "triggered_acc", "placebo_asr", "target_rate", "agreement")
FIRST = ("clean", "attacked")  # stages that need no further word
Build = Callable[[pd.DataFrame], "list[Table]"]


@dataclass(frozen=True)
class Table:
    """A table of the page: text only, the first `names` columns name the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def read(path: Path) -> pd.DataFrame:
    """A result table.

    Raises:
        ValueError: If the file is none.
    """
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise ValueError(str(error)) from error
    if missing := [column for column in NEEDED if column not in table]:
        raise ValueError(f"it has no column {missing[0]}")
    return table


def percent(value: Any) -> str:
    """A number with one decimal; nothing for what was not measured."""
    return "" if value is None or math.isnan(float(value)) else f"{float(value):.1f}".replace("-0.0", "0.0")


def headline(table: pd.DataFrame, recipe: Mapping[str, str]) -> list[Table]:
    """One table an attack and set: before and after, means over the reported seeds.

    Args:
        table: distillation.csv.
        recipe: The teacher, student and loss of the distillation that the study is about.
    """
    cells = {
        "clean encoder": {"stage": "clean"},
        "attacked": {"stage": "attacked"},
        "clean share alone": {"defence": "clean_share"},
        "fine-tuned": {"defence": "finetune"},
        f"distilled: {', '.join(map(name, recipe.values()))}": {"defence": "distillation", **recipe},
    }
    return [
        _means(scope_title(scope), [((label,), pick(rows, cell)) for label, cell in cells.items()], ("encoder",))
        for scope, rows in scopes(tidy(_numbers(table)))
    ]


def encoders(table: pd.DataFrame) -> list[Table]:
    """Every encoder of distillation.csv, one table an attack and set: means over the reported seeds."""
    return [_grouped(scope_title(scope), rows, CELL) for scope, rows in scopes(tidy(_numbers(table)))]


def without_data(table: pd.DataFrame) -> list[Table]:
    """Every teacher and student of datafree.csv."""
    columns = ("dataset", "attack", "stage", "method", "defence")
    return [_grouped("Teachers and students without data", _reported(table), columns)]


def thieves(table: pd.DataFrame) -> list[Table]:
    """Teachers and students of undistillable.csv; a student's lead over those that asked nobody is in points."""
    rows = _reported(table)
    taught = _grouped("Teachers", rows[rows["stage"] == "teacher"], ("dataset", "teacher"))
    shown = ("student", "thief", "teacher", "acc", "agreement", "to_alone", "n")
    heads = ("student", "thief", "teacher", "ACC", "agreement", "points over alone", "n")
    found = students_table(table)[list(shown)].itertuples(index=False)
    lines = tuple((*map(name, map(str, row[:3])), *map(percent, row[3:6]), str(row[6])) for row in found)
    return [taught, Table("Students", heads, lines, 3)]


def accepted(table: pd.DataFrame) -> list[Table]:
    """How each attack stands to the band that was written down before the runs."""
    found = acceptance(table)
    rows = tuple(
        (scope_title(row), percent(row["asr"]), percent(row["floor"]), percent(row["acc_change"]), str(row["n"]),
         "yes" if row["planted"] else "no", "yes" if row["full"] else "no")
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = ("attack", "ASR", "floor", "points of ACC", "n", "planted", "full")
    return [Table("Were the attacks planted?", columns, rows)] if rows else []


def judged(find: Callable[[pd.DataFrame], pd.DataFrame]) -> Build:
    """Tables of verdicts, one a scope, from a function that judges a result table."""

    def build(table: pd.DataFrame) -> list[Table]:
        found = find(table)
        scope = [column for column in found.columns[2 : list(found.columns).index("verdict")] if column != "target"]
        groups = found.groupby(scope, sort=False) if len(found) else ()
        return [Table(_title(scope, place), _VERDICT, tuple(map(_verdict, rows.to_dict("records"))))
                for place, rows in groups]  # fmt: skip

    return build


VERDICTS: dict[str, Build] = {
    "distillation": judged(verdicts),
    "datafree": judged(verdicts_datafree),
    "undistillable": judged(verdicts_undistillable),
}
_VERDICT = ("claim", "verdict", "effect, points", "threshold", "95 % interval", "n", "p", "what was compared")


def decided(tables: Iterable[Table]) -> dict[str, int]:
    """How many claims have which verdict, the n of undecided ones left out."""
    counts: dict[str, int] = {}
    for table in tables:
        for row in table.rows:
            word = row[1].split(" (")[0]
            counts[word] = counts.get(word, 0) + 1
    return counts


def least_seeds() -> int:
    """With fewer seeds nothing is decided."""
    return load_claims().least_seeds


def _verdict(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = percent(row["low"]), percent(row["high"])
    interval = f"{low} to {high}" if low and high else ""
    p = "" if math.isnan(row["p"]) else f"{row['p']:.3f}"
    about = "; ".join(filter(None, [row["comparison"], row["note"]]))
    verdict = row["verdict"].replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    effect, threshold = percent(row["effect"]), percent(row["threshold"])
    return row["sentence"], verdict, effect, threshold, interval, str(row["n"]), p, about


def _title(columns: Sequence[str], values: Sequence[str]) -> str:
    scope = dict(zip(columns, values, strict=True))
    return scope_title(scope) if "downstream" in scope else ", ".join(name(value) for value in scope.values())


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{each: pd.to_numeric(table[each]) for each in NUMBERS if each in table})


def _reported(table: pd.DataFrame) -> pd.DataFrame:
    rows = _numbers(table)
    return rows[rows["seed"] < EXPLORATION_SEEDS]


def _grouped(title: str, rows: pd.DataFrame, columns: Sequence[str]) -> Table:
    """Means of every group: the encoders before and after the attack, then all others in the order of the file."""
    rows = rows.astype(dict.fromkeys(columns, object)).fillna(dict.fromkeys(columns, ""))
    groups = rows.groupby(list(columns), sort=False)
    places = sorted(groups, key=lambda group: _rank(group[0][0]))
    return _means(title, [(tuple(map(_shown, place)), found) for place, found in places], columns)


def _rank(stage: str) -> int:
    return FIRST.index(stage) if stage in FIRST else len(FIRST)


def _shown(word: Any) -> str:
    return "" if word == "none" else name(str(word))


def _means(title: str, groups: Iterable[tuple[tuple[str, ...], pd.DataFrame]], columns: Sequence[str]) -> Table:
    """One row a group that has any rows: its names, mean rates, n, seeds."""
    groups = [(label, rows) for label, rows in groups if len(rows)]
    rates = [rate for rate in RATES if all(rate in rows for _, rows in groups)]
    lines = []
    for label, rows in groups:
        seeds = sorted(set(rows["seed"].astype(int)))
        means = (percent(rows[rate].mean()) for rate in rates)
        lines.append((*label, *means, str(len(seeds)), ", ".join(map(str, seeds))))
    heads = (*columns, *(RATES[rate] for rate in rates), "n", "seeds")
    return Table(title, heads, tuple(lines), len(columns))
