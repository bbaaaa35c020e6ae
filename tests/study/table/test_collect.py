"""Rows of what the store has so far."""

import json
from types import SimpleNamespace

import pandas

from distill_lib.plots import files, numbers_acc_asr
from distill_lib.plots.summary import plain
from distill_lib.study import tables
from distill_lib.study.table import collect as subject


def collected(table, monkeypatch, capsys):
    """What the command says, and the rows in the tables after it."""
    folder = table.runs.parent
    (folder / "notebooks").mkdir(exist_ok=True)
    monkeypatch.setenv("DISTILL_RUNS", str(table.runs))
    monkeypatch.setattr(subject.collect, "__defaults__", (folder,))
    subject.main(SimpleNamespace(source=table.source, seeds=None, device=None, data_dir=None))
    rows = {name: tables.read(folder / f"results/tiny/{name}.csv") for name in ("distillation", "sweeps")}
    return capsys.readouterr().out.splitlines()[-1], rows


def test_what_is_there_is_filed_and_nothing_is_made(filled, monkeypatch, capsys):
    before = (filled.runs / "makes.log").read_text()
    said, rows = collected(filled, monkeypatch, capsys)
    assert (filled.runs / "makes.log").read_text() == before
    assert [(row["attack"], row["downstream"], row["stage"]) for row in rows["distillation"]] == [
        ("ctrl", "shapes", "attacked"),
        ("ctrl", "shapes", "clean"),
    ]
    assert sorted(row["value"] for row in rows["sweeps"]) == sorted(
        ["knn", "linear", "knn", "linear", "random", "random;knn", "random;linear"]
    )
    assert " 3 measurements are in the store, " in said
    manifest = json.loads((filled.runs.parent / "results" / "tiny" / "manifest.json").read_text())
    assert {study: list(seeds) for study, seeds in manifest["by_seed"].items()} == {"distillation": ["0"]}
    assert manifest["jobs"] == {}
    table = pandas.read_csv(filled.runs.parent / "results" / "tiny" / "distillation.csv", keep_default_na=False)
    _, drawn, _ = files.read(filled.runs.parent / "figures" / "tiny" / "acc_asr.json")
    assert drawn == plain(numbers_acc_asr(table))  # a figure of the whole table never lags behind it


def test_an_empty_store_gives_no_row(table, monkeypatch, capsys):
    said, rows = collected(table, monkeypatch, capsys)
    assert rows == {"distillation": [], "sweeps": []}
    assert "0 rows in no table. 0 measurements are in the store, " in said
    assert not (table.runs / "makes.log").exists()
