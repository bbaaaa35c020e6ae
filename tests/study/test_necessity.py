"""The necessity table: what each row changes, and what it costs; no encoder is trained here."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from distill_lib.evaluation.probes import PROBES
from distill_lib.study import store
from distill_lib.study.images import Facts
from distill_lib.study.necessity import ingredients, necessity, prices
from distill_lib.study.session import open_study
from distill_lib.study.stages import Stages
from distill_lib.study.workshop import VERSIONS, without_unused

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")
KNOWN = {
    f"{name}/{split}": Facts("archive", f"{name}-{split}", count, 10)
    for name, count in (("builtin", 10_000), ("patterns", 2_000), ("shapes", 2_000))
    for split in ("train", "test")
}


@pytest.fixture
def opened(tmp_path, monkeypatch, enter_repository):
    """Opens a study whose encoders are empty files that took 1 s and 5 MB each, and whose rates are made up."""

    def make(stages, kind, config, compute):
        empty = lambda work: (None, {"references": [0]})  # noqa: E731
        return stages.store.make(kind, VERSIONS[kind], without_unused(config), empty)

    def measured(stages, cell, encoder=None, on="test"):
        stages.encoder_of(cell)
        names = ("acc", "asr", "asr_all", "triggered_acc", "placebo_asr", "target_rate", "trigger_cos")
        rates = {**dict.fromkeys(names, 1.0), "n_test": 9}
        return SimpleNamespace(key="made up", metrics=dict.fromkeys(PROBES, rates))

    monkeypatch.setattr(Stages, "make", make)
    monkeypatch.setattr(Stages, "measured", measured)
    monkeypatch.setattr(store.Meter, "read", lambda self: {"wall_s": 1.0, "peak_rss_mb": 5.0})
    enter_repository(tmp_path)

    def opened(**settings):
        study = open_study(TINY, attack="badencoder", **settings)
        study.stages.known.update(KNOWN)
        return study

    return opened


def test_one_ingredient_is_taken_away_at_a_time(opened):
    study = opened()
    rows = necessity(study, study.compared())
    assert list(rows["row"]) == [one.row for one in ingredients(study)]
    by_row = rows.set_index("row")
    assert by_row.loc["recipe, clean teacher", "teacher"] == "clean"
    assert by_row.loc["nad", "defence"] == "nad"
    settings = {one.row: one.settings for one in ingredients(study)}
    assert settings["recipe, distillation weight 0"] == {"distillation.weights.at": 0.0}
    assert study.profile.varied(settings["recipe, NT-Xent weight 0"]).distillation.nt_xent_weight == 0.0


def test_a_recipe_with_an_ingredient_less_distils_for_as_many_steps(opened):
    study = opened()
    rows = necessity(study, study.compared()).set_index("row")
    recipes = rows[rows.index.str.startswith("recipe")]
    assert len(recipes) == 5
    assert set(recipes["steps"]) == {2_000 * 0.4 // (2 * 50)}  # what teacher and warm-up leave, two views an image
    assert rows.loc["finetune", "steps"] == 2_000 // (2 * 50)
    assert rows.loc["fine_pruning", "steps"] == 2_000 // (2 * 50)
    assert rows.loc[["bn_reset", "clp"], "steps"].isna().all()


def test_a_price_is_that_of_the_parts_that_a_row_needs(opened):
    study = opened()
    rows = necessity(study, study.compared()).set_index("row")
    seconds = {
        "recipe": 3,  # teacher, warm-up, distillation
        "recipe, NT-Xent weight 0": 3,
        "recipe, distillation weight 0": 2,  # needs no teacher
        "recipe, clean teacher": 2,
        "finetune": 1,
        "nad": 2,
    }
    assert rows.loc[list(seconds), "wall_s"].to_dict() == seconds
    assert set(rows["peak_rss_mb"]) == {5.0}
    assert rows["peak_device_mb"].isna().all()


def test_prices_are_sums_and_largest_peaks_and_older_files_will_do(opened, monkeypatch):
    study = opened()
    (recipe,) = study.recipe(study.compared())
    assert prices(study, [recipe]).empty  # nothing is computed for a price
    costs = iter([{"wall_s": 2.0, "peak_rss_mb": 9.0}, {"wall_s": 3.0, "peak_rss_mb": 4.0, "peak_device_mb": 7.0}])
    last = {"wall_s": 4.0, "peak_rss_mb": 1.0}

    def read(meter):
        return next(costs, last) if meter.path.parent.name.startswith(("repaired", "distilled")) else last

    monkeypatch.setattr(store.Meter, "read", read)
    study.stages.encoder_of(recipe)
    (row,) = prices(study, [recipe]).to_dict("records")
    assert (row["wall_s"], row["peak_rss_mb"], row["peak_device_mb"]) == (9.0, 9.0, 7.0)


def test_a_run_in_pieces_is_shown_and_priced_whole(opened):
    first = opened()
    necessity(first, first.compared())
    first.finish()
    later = opened(seeds=[1])
    rows = necessity(later, later.compared())
    assert set(rows.groupby("row")["seed"].agg(tuple)) == {(0, 1)}
    assert rows["wall_s"].notna().all()
    explored = opened(seeds=[100])
    assert set(necessity(explored, explored.compared())["seed"]) == {100}
