"""What is committed under results/ and figures/ belongs to the settings of today."""

import json
from pathlib import Path

import pandas
import pytest

from distill_lib.plots import files, numbers_acc_asr, numbers_headline, redraw
from distill_lib.plots.summary import plain
from distill_lib.study import tables
from distill_lib.study.config.load import load_profile
from distill_lib.study.datafree.stale import checker as datafree_checker
from distill_lib.study.stale import checker, known_facts
from distill_lib.study.undistillable.stale import checker as undistillable_checker

REPOSITORY = Path(__file__).parents[1]
MANIFESTS = sorted((REPOSITORY / "results").glob("*/manifest.json"))
FIGURES = sorted((REPOSITORY / "figures").glob("*/*.json"))


def test_the_main_jobs_results_are_committed():
    assert REPOSITORY / "results" / "quick" / "manifest.json" in MANIFESTS


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_no_committed_row_is_stale(manifest):
    profile = load_profile(manifest.parent.name)
    stale = checker(profile, known_facts(manifest))
    rows = [row for name in ("distillation", "sweeps") for row in tables.read(manifest.parent / f"{name}.csv")]
    assert rows
    assert [row for row in rows if stale(row)] == []


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_no_committed_row_of_the_data_free_study_is_stale(manifest):
    stale = datafree_checker(load_profile(manifest.parent.name), known_facts(manifest))
    names = ("datafree", "datafree_sweeps")
    assert [row for name in names for row in tables.read(manifest.parent / f"{name}.csv") if stale(row)] == []


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_no_committed_row_of_undistillable_teachers_is_stale(manifest):
    stale = undistillable_checker(load_profile(manifest.parent.name), known_facts(manifest))
    names = ("undistillable", "undistillable_sweeps")
    assert [row for name in names for row in tables.read(manifest.parent / f"{name}.csv") if stale(row)] == []


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_manifest_says_how_its_results_were_made(manifest):
    content = json.loads(manifest.read_text(encoding="utf-8"))
    assert content["versions"]["torch"] != "missing"
    assert content["hardware"]["cpu"]
    assert content["configuration"]["name"] == manifest.parent.name
    assert all(job["wall_s"] > 0 for job in content["jobs"].values())


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_figure_is_redrawn_from_its_numbers_alone(path):
    assert redraw(path).axes
    assert json.loads(path.read_text(encoding="utf-8"))["alt"]


@pytest.mark.parametrize("numbers", [numbers_acc_asr, numbers_headline], ids=["acc_asr", "headline"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_figure_of_the_whole_table_shows_the_table(manifest, numbers):
    table = pandas.read_csv(manifest.parent / "distillation.csv", keep_default_na=False, na_values=[""])
    name = numbers.__name__.removeprefix("numbers_")
    _, drawn, _ = files.read(REPOSITORY / "figures" / manifest.parent.name / f"{name}.json")
    assert drawn == plain(numbers(table)), f"draw {name} of {manifest.parent.name} again"
