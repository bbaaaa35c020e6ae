"""Verdicts, the table of students and the trade of undistillable teachers."""

import math

import numpy as np
import pandas as pd
import pytest

from distill_lib.evaluation.undistillable import (
    CONTROLS,
    USUAL,
    controls_of,
    stakes_of,
    students_table,
    trades,
    verdicts_undistillable,
)
from distill_lib.undistillable import THIEVES

TEACHERS = {"normal": 90.0, "nasty": 89.0, "stingy": 90.0, "ast": 88.9}
STUDENTS = {"normal": 85.0, "nasty": 78.0, "stingy": 80.0, "ast": 75.0}


def made_up(seeds, teachers=TEACHERS, students=STUDENTS, alone=84.0):
    about = {"dataset": "cifar10", "n_test": 10, "key": "k"}
    cells = [("teacher", name, "", "", acc, 95.0) for name, acc in teachers.items()]
    cells += [
        ("student", name, "cnn", thief, acc, 80.0) for name, acc in students.items() for thief in ("kd", "kd_t20")
    ]
    cells += [("student", "", "cnn", thief, alone + i, 82.0) for i, thief in enumerate(("alone", "label_smoothing"))]
    names = ("stage", "teacher", "student", "thief")
    rows = [
        {**about, **dict(zip(names, cell, strict=True)), "seed": s, "acc": acc + 0.1 * (s % 3), "agreement": other}
        for s in seeds
        for *cell, acc, other in cells
    ]
    return pd.DataFrame(rows).replace("", np.nan)


def verdict_of(table):
    return verdicts_undistillable(table).set_index("claim")["verdict"].to_dict()


def test_six_seeds_decide_what_was_measured():
    assert verdict_of(made_up(range(6))) == {
        "costs_little": "supported", "nasty_degrades": "supported", "sparse_degrades": "supported",
        "ast_degrades": "supported", "ast_is_best": "supported", "worse_than_alone": "supported",
    }  # fmt: skip


def test_few_seeds_decide_nothing_but_show_the_effect():
    found = verdicts_undistillable(made_up(range(3))).set_index("claim")
    assert set(found["verdict"]) == {"undecided (n = 3)"}
    assert found.loc["sparse_degrades", "effect"] == pytest.approx(5)
    assert found.loc["costs_little", "comparison"] == "ACC: ast minus normal"  # the weakest of three
    assert set(found["student"]) == {"cnn"}


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"teachers": {**TEACHERS, "nasty": 80.0}}, "costs_little"),
        ({"students": {**STUDENTS, "stingy": 84.0}}, "sparse_degrades"),
        ({"students": {**STUDENTS, "ast": 79.0}}, "ast_is_best"),
        ({"students": {**STUDENTS, "stingy": 86.0}}, "worse_than_alone"),
    ],
)
def test_the_opposite_is_refuted(changes, claim):
    assert verdict_of(made_up(range(6), **changes))[claim] == "refuted"


def test_a_missing_defence_is_said():
    table = made_up(range(6))
    found = verdicts_undistillable(table[table["teacher"] != "ast"]).set_index("claim")
    assert found.loc["ast_is_best", "verdict"] == "undecided (n = 0)"
    assert "not measured: kd_ast" in found.loc["ast_is_best", "note"]
    assert found.loc["sparse_degrades", "verdict"] == "supported"


def test_where_the_normal_teachers_copy_is_worthless_nothing_was_defended():
    """KD from the normal teacher has 85 %, a student alone 84, then 87."""
    found = verdicts_undistillable(made_up(range(3))).set_index("claim")["note"]
    assert not found.str.contains("no theft").any()
    found = verdicts_undistillable(made_up(range(3), alone=87.0)).set_index("claim")["note"]
    assert "no theft to defend against: kd from the normal teacher -2.0 against alone" in found["nasty_degrades"]
    assert "kd_t20 from" in found["sparse_degrades"]
    assert "kd from" not in found["sparse_degrades"]
    assert "no theft" not in found["costs_little"]


def test_the_stake_is_paired_by_seed():
    found = stakes_of(made_up((0, 1)))
    assert found["stake"].tolist() == pytest.approx([1.0, 1.0])
    assert stakes_of(made_up((0,))[lambda rows: rows["thief"] != "alone"]).empty


def test_exploration_seeds_and_empty_tables_have_no_verdicts():
    assert verdicts_undistillable(made_up((100, 101))).empty
    assert list(verdicts_undistillable(made_up(()).reindex(columns=made_up((0,)).columns))["claim"]) == []


def test_a_student_is_held_against_those_who_asked_nobody():
    found = students_table(made_up(range(3))).set_index(["thief", "teacher"])
    nasty = found.loc[("kd", "nasty")]
    assert (nasty["n"], nasty["agreement"]) == (3, 80.0)
    assert nasty["low"] < nasty["acc"] < nasty["high"]
    assert (nasty["to_alone"], nasty["to_smoothed"]) == (pytest.approx(-6), pytest.approx(-7))
    assert found.loc[("alone", ""), "to_alone"] == 0
    assert math.isnan(students_table(made_up(range(2))).loc[0, "low"])


def test_every_control_asks_nobody_and_is_like_its_thief():
    assert CONTROLS.keys() <= THIEVES.keys()
    for thief, row in THIEVES.items():
        controls = [each for each in controls_of(thief).values() if each]
        assert bool(controls) == row.labelled, thief
        for control in controls:
            assert not THIEVES[control].asks
            assert THIEVES[control].part == row.part or not row.asks
            heads = [each.terms is None for each in (row, THIEVES[control])]
            assert heads[0] == heads[1] or not row.asks


def test_a_thief_with_less_is_held_against_a_control_with_less():
    table = made_up(range(3))
    part = [("normal", "kd_part", 70.0), ("", "alone_part", 60.0), ("normal", "kd_other", 40.0)]
    rows = [{**table.iloc[-1], "teacher": t, "thief": thief, "acc": acc, "seed": 0} for t, thief, acc in part]
    found = students_table(pd.concat([table, pd.DataFrame(rows)])).set_index("thief")
    assert (found.loc["kd_part", "control"], found.loc["kd_part", "to_alone"]) == ("alone_part", 10)
    assert math.isnan(found.loc["kd_part", "to_smoothed"])
    assert found.loc["kd_other", ["to_alone", "to_smoothed"]].isna().all()
    assert found.loc["alone", "control"] == USUAL["to_alone"]


def test_exploration_seeds_are_shown_where_they_are_asked_for():
    table = pd.concat([made_up((0, 1)), made_up((100,))])
    assert set(students_table(table, exploring=True)["n"]) == {1}
    assert set(trades(table, exploring=True)["seed"]) == {100}
    assert set(verdicts_undistillable(table, exploring=True)["verdict"]) == {"undecided (n = 1)"}


def test_a_trade_is_paired_by_seed():
    table = made_up(range(3))
    found = trades(table[(table["teacher"] != "ast") | (table["seed"] < 2)])
    assert set(found["teacher"]) == {"nasty", "stingy", "ast"}
    ast = found[found["teacher"] == "ast"]
    assert ast["seed"].tolist() == [0, 1]
    assert ast["teacher_loss"].tolist() == pytest.approx([1.1, 1.1])
    assert ast["student_loss"].tolist() == pytest.approx([10, 10])
