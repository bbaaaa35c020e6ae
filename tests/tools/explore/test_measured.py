"""What was run at other settings; nothing is made up between the points."""

import pandas
import pytest

from distill_lib.study.cells import DISTILLATION_COLUMNS, SWEEP_COLUMNS, Cell
from distill_lib.study.session import Study
from distill_lib.tools.explore import Settings, measured, shares, weights
from distill_lib.tools.explore.measured import NOTHING, SHARE, WEIGHT, measured_words, nearest

CELL = Cell("builtin", "badencoder", "patterns", 0, "attacked", "none", "", "", "", 0)
OWN = 0.01  # the profile's share


@pytest.mark.parametrize(("asked", "found"), [(1, 1), (3, 1), (3.2, 10), (99, 100), (1000**0.5, 10), (9e9, 100)])
def test_the_nearest_point_is_so_on_a_logarithmic_scale(asked, found):
    assert nearest([100, 1, 10], asked) == found


def points():
    rows = [("at", value, 40.0 - i, 5.0 + i, 2, "100, 101") for i, value in enumerate((100.0, 1000.0))]
    return pandas.DataFrame(rows, columns=measured.COLUMNS)


def test_a_point_that_was_run_is_shown_as_it_is():
    words = measured_words(points(), 1000.0, "validation images")
    assert words.startswith("1000 was run (validation images).")
    assert "<b>39.0</b>" in words
    assert "<b>40.0</b>" not in words


def test_between_the_points_nothing_is_made_up():
    words = measured_words(points(), 250.0, "test images")
    assert "250 was not run, and nothing is interpolated; the nearest that was: 100" in words
    assert "<b>40.0</b>" in words
    assert "39.0" in words
    assert "39.5" not in words


class Made(Study):
    """A study that holds tables and nothing else."""

    def __init__(self, main, sweeps, tuning):
        self.main, self.sweeps, self._tuning = main, sweeps, tuning

    class profile:
        class defender:
            share = OWN

    def tuning(self):
        return self._tuning

    def filed(self, table):
        return self.sweeps

    def table(self, settings=None):
        value = settings["defender.share"]
        swept = self.sweeps[(self.sweeps["setting"] == "defender.share") & (self.sweeps["value"] == str(value))]
        found = self.main if value == OWN else swept
        return found[list(DISTILLATION_COLUMNS)]


def row(defence, seed, acc, asr, loss="", **other):
    parts = ("finetuned", "warmup", loss) if loss else ("", "", "")
    cell = {**CELL.identity(), "stage": "defended", "defence": defence, "seed": seed, "n_test": 10}
    cell |= dict(zip(("teacher", "student", "loss"), parts, strict=True))
    return {**dict.fromkeys(DISTILLATION_COLUMNS, ""), **cell, "acc": acc, "asr": asr, **other}


def swept(each, share, setting="defender.share"):
    return {"study": "distillation", **each, "setting": setting, "value": share}


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(measured, "attacked_cell", lambda study: CELL)
    main = [row("finetune", seed, 40 + seed, 30 + seed) for seed in (0, 1)]
    main += [row("distillation", 0, 41, 9, "at"), row("nad", 0, 1, 1), row("finetune", 0, 99, 99, downstream="shapes")]
    sweeps = [swept(row("finetune", 0, 44, 20), "0.05"), swept(row("distillation", 0, 42, 4, "at"), "0.05")]
    sweeps += [swept(row("finetune", 0, 77, 77), "0.2;knn", "defender.share;probe")]
    tuning = [("at", 10.0, 100, 30.0, 8.0), ("at", 10.0, 101, 32.0, 4.0), ("at", 100.0, 100, 20.0, 2.0)]
    columns = ["loss", "weight", "seed", "acc", "asr"]
    frames = pandas.DataFrame(main), pandas.DataFrame(sweeps, columns=list(SWEEP_COLUMNS))
    return Made(*frames, pandas.DataFrame(tuning, columns=columns))


def test_weights_are_means_over_seeds(study):
    assert weights(study).values.tolist() == [
        ["at", 10.0, 31.0, 6.0, 2, "100, 101"],
        ["at", 100.0, 20.0, 2.0, 1, "100"],
    ]


def test_shares_compare_the_seeds_that_both_have(study):
    assert shares(study).values.tolist() == [
        ["finetune", 0.01, 40.0, 30.0, 1, "0"],  # seed 1 has no other share
        ["finetune", 0.05, 44.0, 20.0, 1, "0"],
        ["finetuned / warmup / at", 0.01, 41.0, 9.0, 1, "0"],
        ["finetuned / warmup / at", 0.05, 42.0, 4.0, 1, "0"],
    ]


def test_handles_keep_to_the_range_that_was_run(study):
    settings = Settings(study)
    handles = settings.handles[SHARE]
    assert (handles["asked"].min, handles["asked"].max) == pytest.approx((-2, -1.30103))
    handles["asked"].value = 0.04
    assert "0.04 was not run" in settings.words[SHARE].value
    assert "<b>44.0</b>" in settings.words[SHARE].value
    handles["line"].value = "finetuned / warmup / at"
    assert "<b>42.0</b>" in settings.words[SHARE].value
    settings.handles[WEIGHT]["asked"].value = 90
    assert "<b>20.0</b>" in settings.words[WEIGHT].value


def test_nothing_run_is_said(study):
    study.main, study.sweeps, study._tuning = study.main[:0], study.sweeps[:0], study._tuning[:0]
    settings = Settings(study)
    assert settings.handles == {}
    assert all(NOTHING in words.value for words in settings.words.values())
