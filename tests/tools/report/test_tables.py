"""The report's tables from small result tables by hand."""

import io
import math

import pandas as pd
import pytest

from distill_lib.evaluation.verdicts import verdicts
from distill_lib.tools.report import tables

RECIPE = {"teacher": "finetuned", "student": "warmup", "loss": "at"}
DATAFREE = """dataset,attack,target,stage,method,defence,seed,n_test,acc,asr,asr_all,target_rate,key
builtin,badnet_grid,0,teacher,,none,0,2000,93.5,100.0,100.0,0.2,a
builtin,badnet_grid,0,student,ood,none,0,2000,70.0,20.0,25.0,0.8,b
builtin,badnet_grid,0,student,ood,none,1,2000,60.0,99.0,99.0,1.0,c
"""
UNDISTILLABLE = """dataset,stage,teacher,student,thief,seed,n_test,acc,agreement,key
builtin,teacher,normal,,,0,2000,88.0,,a
builtin,student,,cnn_tiny,alone,0,2000,66.75,68.7,b
builtin,student,normal,cnn_tiny,kd,0,2000,62.5,65.0,c
"""


def frame(text):
    """A table as the report reads it."""
    return pd.read_csv(io.StringIO(text))


@pytest.fixture
def main(made):
    """distillation.csv of the made-up repository."""
    return tables.read(made.results / "distillation.csv")


def test_percent_has_one_decimal_or_is_empty():
    assert [tables.percent(value) for value in (12.34, -0.01, -1.25, None, math.nan)] == ["12.3", "0.0", "-1.2", "", ""]


def test_the_headline_has_a_row_a_cell_that_was_measured(main):
    (table,) = tables.headline(main, RECIPE)
    assert table.title == "BadEncoder, builtin → shapes, target 0"
    assert [row[0] for row in table.rows] == [
        "clean encoder", "attacked", "fine-tuned", "distilled: fine-tuned, warm-up, AT",
    ]  # fmt: skip
    assert table.rows[1] == ("attacked", "59.2", "98.0", "3.5", "21.2", "1.5", "2", "0, 1")


def test_all_encoders_in_order(main):
    (table,) = tables.encoders(main)
    assert [row[0] for row in table.rows] == ["clean", "attacked", "defended", "defended"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert ("defended", "distillation", "fine-tuned", "warm-up", "AT") in [row[: table.names] for row in table.rows]


def test_verdicts_by_scope(main):
    (table,) = tables.VERDICTS["distillation"](main)
    assert table.title == "BadEncoder, builtin → shapes, target 0".removesuffix(", target 0")
    assert len(table.rows) == len(verdicts(main))
    assert tables.decided([table]) == {"undecided": len(table.rows)}
    halves = next(row for row in table.rows if row[0].startswith("Distillation cuts"))
    assert halves[1].split() == ["undecided", "(n", "=", "1)"]
    assert halves[4] == ""  # no interval from one seed


def test_attacks_are_held_against_their_band(main):
    (table,) = tables.accepted(main)
    assert table.rows == (("BadEncoder, builtin → shapes, target 0", "98.0", "3.5", "-3.0", "2", "yes", "yes"),)


def test_without_data_means_are_by_cell():
    (table,) = tables.without_data(frame(DATAFREE))
    assert table.rows[0] == ("builtin", "badnet grid", "teacher", "", "", "93.5", "100.0", "0.2", "1", "0")
    assert table.rows[1][5:] == ("65.0", "59.5", "0.9", "2", "0, 1")
    (found,) = tables.VERDICTS["datafree"](frame(DATAFREE))
    assert all(row[1].startswith("undecided (n") for row in found.rows)


def test_thieves_stand_beside_the_student_that_asked_nobody():
    taught, robbed = tables.thieves(frame(UNDISTILLABLE))
    assert taught.rows == (("builtin", "normal", "88.0", "1", "0"),)
    assert ("cnn tiny", "KD", "normal", "62.5", "65.0", "-4.2", "1") in robbed.rows
    assert tables.VERDICTS["undistillable"](frame(UNDISTILLABLE))[0].title == "builtin, cnn tiny"


@pytest.mark.parametrize("name", ["nosuch.csv", "."])
def test_a_file_that_is_no_table_is_a_value_error(made, name):
    with pytest.raises(ValueError, match=r"."):
        tables.read(made.results / name)
