"""Sweeps: which cells and settings are measured, and what the rows say; no encoder is trained here."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
from matplotlib.text import Text

from distill_lib.evaluation.probes import PROBES
from distill_lib.study import sweeps as module
from distill_lib.study.config.sweep import Sweep
from distill_lib.study.session import open_study
from distill_lib.study.stages import Stages
from distill_lib.study.sweeps import NOTHING, Sweeps, named, overview, swept

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")


@pytest.fixture
def study(tmp_path, monkeypatch, enter_repository):
    """A study whose measurements are made up: ACC the trigger's size, ASR 100 times the clean share."""

    def measured(stages, cell, encoder=None, on="test"):
        rates = dict.fromkeys(("asr_all", "triggered_acc", "placebo_asr", "target_rate", "trigger_cos"), 1.0)
        profile = stages.profile
        rates |= {"n_test": 9, "acc": float(profile.injection.trigger_size), "asr": 100 * profile.defender.share}
        return SimpleNamespace(key="made up", metrics=dict.fromkeys(PROBES, rates))

    monkeypatch.setattr(Stages, "measured", measured)
    enter_repository(tmp_path)
    return open_study(TINY, attack="badencoder", seeds=[0, 1])


SIZES = Sweep(
    "size", "pixels", {"injection.trigger_size": (6, 10), "defender.share": (0.01, 0.02)}, ("clean", "finetune")
)


def test_every_word_of_a_sweep_is_its_cell(study):
    bases = study.compared()
    labels = [
        named(study, bases, word)[0].label() for word in ("clean", "attacked", "clp", "recipe", "poisoned/copy/kd")
    ]
    assert labels == ["clean", "attacked", "clp", "finetuned / warmup / at", "poisoned / copy / kd"]


def test_rows_say_the_value_and_the_line(study):
    rows = swept(study, SIZES)
    assert len(rows) == 8
    assert set(rows["x"]) == {"6", "10"}
    assert set(rows["line"]) == {f"{cell}, share {share}" for cell in ("clean", "finetune") for share in (0.01, 0.02)}
    assert [tuple(row) for row in rows[["x", "acc", "line", "asr"]].values[:2]] == [
        ("6", 6.0, "clean, share 0.01", 1.0),
        ("6", 6.0, "finetune, share 0.01", 1.0),
    ]
    assert set(rows["downstream"]) == {"patterns"}


def test_a_varied_key_may_tell_panels_apart_instead_of_lines(study):
    rows = swept(study, replace(SIZES, panels=("defender.share",), words={"share 0.02": "", "clean": "no attack"}))
    assert set(rows["sweep"]) == {"size, share 0.01", "size"}
    assert set(rows["line"]) == {"no attack", "finetune"}


def test_what_is_off_the_defaults_alone_goes_to_the_sweeps(study):
    swept(study, SIZES)
    settings = [(row["setting"], row["value"]) for row in study._rows["sweeps"] if "probe" not in row["setting"]]
    assert sorted(set(settings)) == [
        ("defender.share", "0.02"),
        ("defender.share;injection.trigger_size", "0.02;6"),
        ("injection.trigger_size", "6"),
    ]
    assert {row["defence"] for row in study._rows["distillation"]} == {"none", "finetune"}


def test_earlier_seeds_are_found_in_the_tables(study):
    swept(study, SIZES)
    study.finish()
    later = open_study(TINY, attack="badencoder", seeds=[7])
    rows = swept(later, SIZES)
    assert set(rows["seed"]) == {0, 7}


def test_recipes_are_tested_on_every_seed_measured_so_far(study):
    module.tested(study, study.compared())
    study.finish()
    later = open_study(TINY, attack="badencoder", seeds=[7])
    found = module.tested(later, later.compared())
    assert found[["recipe", "n", "met"]].values.tolist() == [
        ["published", 2, "not planted"], ["fine-tuning alone", 2, "not planted"],
    ]  # fmt: skip


def test_sections_measure_once_and_the_rest_comes_with_the_figure(study, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "swept", lambda study, sweep: calls.append(sweep.name) or swept(study, sweep))
    sweeps = Sweeps(study, "robustness")
    assert list(sweeps.plan()["sweep"]) == ["trigger size", "share of clean images"]
    assert sweeps.section("nosuch") == NOTHING
    table = sweeps.section("trigger size")
    assert table["acc", "attacked"].tolist() == [6.0, 10.0]
    assert table["n", "attacked"].tolist() == [1, 1]
    assert table["placebo", "attacked"].between(0, 100).all()  # beside the ASR: what another trigger does
    rows = sweeps.rows()
    assert sweeps.section("trigger size").equals(table)  # a cell that is run again shows what it showed
    assert sweeps.section("trigger*", "share*").index.get_level_values(0).unique().tolist() == [
        "trigger size", "share of clean images",
    ]  # fmt: skip
    assert calls == ["trigger size", "share of clean images"]
    assert set(rows["sweep"]) == set(calls)
    assert sweeps.rows().equals(rows)


def test_a_section_shows_its_table_and_its_own_panels_or_a_sentence(study, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    sweeps = Sweeps(study, "robustness")
    sweeps.show("share of clean images")
    sweeps.show("nosuch")
    table, figure, sentence = shown
    assert {name for name, _ in table.index} == {"share of clean images"}
    words = " ".join(text.get_text() for text in figure.findobj(Text)).lower()
    assert "clean images" in words
    assert "trigger size" not in words
    assert sentence == NOTHING


def test_a_value_that_says_nothing_is_called_the_usual(study):
    rows = swept(study, Sweep("another set", "set", {"defender.source": ("", "shapes")}, ("finetune",)))
    assert rows["x"].tolist() == ["as usual", "shapes"]


def test_every_point_of_an_overview_is_a_mean_over_the_same_seeds(study):
    rows = swept(study, SIZES)
    more = rows[rows["x"] == "10"].assign(seed=5, acc=99.0)
    table = overview(pandas.concat([rows, more]))
    assert (table["n"] == 1).all(axis=None)
    assert table["acc", "clean, share 0.01"].tolist() == [6.0, 10.0]


def test_sweeps_of_one_name_under_two_attacks_are_told_apart(study):
    rows = swept(study, SIZES)
    table = overview(pandas.concat([rows, rows.assign(attack="ctrl", acc=50.0)]))
    assert table["acc", "clean, share 0.01"].tolist() == [6.0, 10.0, 50.0, 50.0]
    assert {name.rpartition(" (")[2] for name, _ in table.index} == {
        "badencoder, builtin to patterns)", "ctrl, builtin to patterns)",
    }  # fmt: skip


def test_a_profile_without_sweeps_has_no_rows(study):
    study.profile = study.profile.varied({})
    assert Sweeps(study, "harm").rows().empty
    assert "line" in Sweeps(study, "harm").rows()
