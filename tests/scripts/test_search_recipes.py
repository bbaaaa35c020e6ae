"""The search for a recipe: its candidates, and how they are ranked."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from distill_lib.study.config import PROFILES, load_profile

SCRIPT = Path(__file__).parents[2] / "scripts" / "search_recipes.py"


@pytest.fixture(scope="module")
def search():
    spec = importlib.util.spec_from_file_location("search_recipes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("profile", PROFILES)
def test_every_candidate_is_possible_in_every_profile(search, profile):
    found = search.candidates()
    assert [each.name for each in found[:2]] == ["published", "fine-tuning alone"]
    assert len({each.name for each in found}) == len(found)
    for recipe in found:
        load_profile(profile).varied(recipe.settings)


def test_the_worst_cell_ranks_a_recipe(search):
    def rows(recipe, acc):
        place = {"recipe": recipe, "pretrain": "a", "attack": "b", "seed": 100, "asr": 2.0, "placebo_asr": 1.0}
        return [{**place, "downstream": d, "acc": a, "triggered_acc": 50.0} for d, a in zip("xy", acc, strict=True)]

    table = [*rows(search.CLEAN, (60, 60)), *rows("even", (57, 57)), *rows("uneven", (66, 50)), *rows("good", (60, 59))]
    found = search.ranked(pandas.DataFrame(table))
    assert found[["recipe", "shortfall"]].values.tolist() == [["good", 0.0], ["even", 1.0], ["uneven", 8.0]]


def test_reported_seeds_are_refused():
    root = SCRIPT.parents[1]
    command = [sys.executable, SCRIPT, "quick", "--seeds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == 2
    assert "exploration seeds start at 100" in done.stderr
