import math
import multiprocessing
import os

import numpy as np
import pytest

from distill_lib.errors import UsageError
from distill_lib.study import tables

COLUMNS = ["attack", "stage", "seed", "n_test", "acc", "asr", "key"]


def row(attack="badencoder", stage="clean", seed=0, acc=50.0, key="k", **rest):
    return {"attack": attack, "stage": stage, "seed": seed, "n_test": 100, "acc": acc, "key": key, **rest}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "results" / "quick" / "distillation.csv"

    def merge(rows, columns=COLUMNS, **options):
        return tables.merge(path, rows, columns, runs=tmp_path / "runs", **options)

    merge.path = path
    return merge


def test_rows_are_written_sorted_and_to_the_last_bit(table):
    third = 100 / 3
    rows = [
        row(seed=10),
        row(seed=9, acc=third),
        row(stage="attacked"),
        row(attack=None, asr=np.float32(0.1)),
    ]
    assert table(rows)
    assert table.path.read_text().splitlines() == [
        "attack,stage,seed,n_test,acc,asr,key",
        ",clean,0,100,50.0,0.10000000149011612,k",
        "badencoder,attacked,0,100,50.0,,k",
        f"badencoder,clean,9,100,{third!r},,k",
        "badencoder,clean,10,100,50.0,,k",
    ]
    assert float(tables.read(table.path)[2]["acc"]) == third


def test_the_order_of_rows_does_not_matter(table):
    rows = [row(seed=s, stage=t) for s in range(12) for t in ("clean", "attacked")]
    table(rows)
    text = table.path.read_text()
    table.path.unlink()
    table(rows[::-1])
    assert table.path.read_text() == text


def test_a_row_replaces_the_one_of_its_identity(table):
    table([row(seed=0, acc=1.0), row(seed=1, acc=2.0)])
    assert table([row(seed=np.int64(1), acc=3.0, key="new")])
    assert [(r["seed"], r["acc"], r["key"]) for r in tables.read(table.path)] == [
        ("0", "1.0", "k"),
        ("1", "3.0", "new"),
    ]


def test_a_table_that_does_not_change_is_not_touched(table):
    table([row(seed=0, acc=100 / 3), row(seed=1)])
    os.utime(table.path, (1, 1))
    assert not table([row(seed=0, acc=100 / 3)])
    assert not table([])
    assert table.path.stat().st_mtime == 1
    assert sorted(p.name for p in table.path.parent.iterdir()) == ["distillation.csv"]


def test_settings_and_values_of_a_sweep_are_identity_too(table):
    columns = ["study", *COLUMNS, "setting", "value"]
    assert tables.identity(columns) == ["study", "attack", "stage", "seed", "setting", "value"]
    table([row(study="distillation", setting="alpha", value=v) for v in (0.5, 1)], columns)
    assert [r["value"] for r in tables.read(table.path)] == ["0.5", "1"]


def test_stale_rows_are_dropped_with_a_line(table):
    table([row(seed=0, key="old"), row(seed=1, key="good"), row(seed=2, key="old")])
    said = []
    table([row(seed=0, key="new")], stale=lambda r: r["key"] == "old", say=said.append)
    assert [(r["seed"], r["key"]) for r in tables.read(table.path)] == [("0", "new"), ("1", "good")]
    assert len(said) == 1
    assert "2 rows dropped" in said[0]
    assert "distillation.csv" in said[0]


def test_columns_that_came_later_are_empty_in_old_rows(table):
    table([row()])
    table([row(seed=1, extra=7)], [*COLUMNS, "extra"])
    assert [r["extra"] for r in tables.read(table.path)] == ["", "7"]


def test_nothing_and_nan_are_empty_cells():
    assert [tables.cell(v) for v in (None, math.nan, np.float64("nan"), "", 0, False, "none")] == [
        "",
        "",
        "",
        "",
        "0",
        "False",
        "none",
    ]


def test_cells_with_commas_survive(table):
    table([row(attack='a,b;"c"')])
    assert tables.read(table.path)[0]["attack"] == 'a,b;"c"'


def test_an_unknown_column_is_an_error(table):
    with pytest.raises(ValueError, match=r"distillation.csv has no column accuracy"):
        table([row(accuracy=1)])
    assert not table.path.exists()


def test_a_folder_that_cannot_be_written_is_a_usage_error(table):
    table.path.parent.parent.mkdir()
    table.path.parent.write_text("a file")
    with pytest.raises(UsageError, match=r"cannot write to '.*quick'"):
        table([row()])


def _merge_one(path, runs, seed):
    tables.merge(path, [row(seed=seed)], COLUMNS, runs)


def test_processes_may_merge_at_the_same_time(table, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_merge_one, args=(table.path, tmp_path / "runs", s)) for s in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [r["seed"] for r in tables.read(table.path)] == [str(s) for s in range(8)]
