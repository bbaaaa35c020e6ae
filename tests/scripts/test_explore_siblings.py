"""The search for settings of the sibling studies."""

import argparse
import importlib.util
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

from distill_lib.errors import UsageError
from distill_lib.study.datafree.cells import Subject
from distill_lib.study.undistillable.cells import Subject as Robbed

PATH = Path(__file__).parents[2] / "scripts" / "explore_siblings.py"
SPEC = importlib.util.spec_from_file_location("explore_siblings", PATH)
explore = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(explore)

TEACHER = Subject("builtin", "badnet_grid", 0, "teacher", "", "none", 100)
STUDENTS = [TEACHER.distilled("ood", defence) for defence in ("none", "abd")]


@pytest.mark.parametrize(
    ("text", "found"),
    [("ood.schedule.lr=0.02", 0.02), ("defended=['zskt']", ["zskt"]), ("teacher=wrn16_2", "wrn16_2"), ("a=true", True)],
)
def test_a_setting_is_read_as_toml_says_it(text, found):
    assert explore.setting(text) == (text.partition("=")[0], found)


@pytest.mark.parametrize("text", ["lr", "=3", ""])
def test_what_sets_nothing_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="KEY=VALUE"):
        explore.setting(text)


@pytest.mark.parametrize(
    ("only", "count"), [([], 3), (["teacher"], 1), (["ood/abd"], 1), (["ood"], 2), (["teacher", "abd"], 2)]
)
def test_networks_are_chosen_by_words_of_their_names(only, count):
    assert len(explore.chosen([TEACHER, *STUDENTS], explore.NAMES["datafree"], only)) == count


def test_a_name_that_nothing_has_is_refused():
    with pytest.raises(UsageError, match=r"cmi.*allowed: words of abd, badnet_grid, none, ood"):
        explore.chosen([TEACHER, *STUDENTS], explore.NAMES["datafree"], ["cmi"])


def test_a_teachers_row_has_the_vaccines_areas_and_a_students_what_it_did():
    vaccines = pandas.DataFrame([{**STUDENTS[1].identity(), "vaccine": "0", "suspicious": 0.3}])
    scores = {"clean": [1.0], "auc": 0.9, "auc_usual": 0.6}
    study = SimpleNamespace(vaccines=lambda subjects: vaccines, scores=lambda subject: scores)
    found = explore.vaccinated(study, [TEACHER, *STUDENTS]).set_index("stage")
    assert found.loc["teacher", ["auc", "auc_usual"]].tolist() == [0.9, 0.6]
    assert found.loc["student", ["defence", "vaccine", "suspicious"]].tolist() == ["abd", "0", 0.3]


def test_a_nasty_teachers_row_says_how_far_it_has_moved():
    artefacts = {("nasty", 100): SimpleNamespace(metrics={"nastiness": 0.3}), ("nasty", 101): None}
    study = SimpleNamespace(stages=SimpleNamespace(resisting=lambda *which: artefacts[which]))
    nasty = Robbed("cifar10", "teacher", "nasty", "", "", 100)
    assert explore.moved(study, nasty) == 0.3
    assert all(math.isnan(explore.moved(study, each)) for each in (nasty.of("ast"), nasty.robbed("kd", "cnn")))
    artefacts["nasty", 101] = SimpleNamespace(metrics={"nastiness": None})
    assert math.isnan(explore.moved(study, replace(nasty, seed=101)))


def test_reported_seeds_are_refused():
    command = [sys.executable, str(PATH), "quick", "datafree", "--seeds", "100", "1"]
    environment = {**os.environ, "PYTHONPATH": str(PATH.parents[1])}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 2
    assert "holds reported seeds; exploration seeds start at 100" in found.stderr
