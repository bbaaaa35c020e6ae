"""The script around the experiment; the experiment itself is tested in tests/tools/inspect."""

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from distill_lib.tools.inspect.experiment import Plan

SCRIPT = Path(__file__).parents[2] / "scripts" / "inspect_encoders.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_few_seeds_are_the_first_of_each_kind_and_three_for_the_threshold(script):
    few = script.planned(1)
    for each in fields(Plan):
        most = 3 if each.name == "reference" else 1
        assert getattr(few, each.name) == getattr(Plan(), each.name)[:most]
    assert script.planned(None) == Plan()


def test_a_wrong_profile_is_one_sentence_and_exit_code_2(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inspect_encoders.py", "nosuch"])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert "unknown profile 'nosuch'; allowed: quick" in capsys.readouterr().err
