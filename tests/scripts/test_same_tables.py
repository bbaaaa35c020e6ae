import importlib.util
import json
from pathlib import Path

import pytest

from distill_lib.errors import UsageError

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "tests" / "profiles" / "tiny.toml"


@pytest.fixture
def subject(monkeypatch):
    """The script; its engines write a table and say what they made."""
    spec = importlib.util.spec_from_file_location("same_tables", REPOSITORY / "scripts" / "same_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def engine(text, makes):
        def run(copy):
            assert (copy.folder / "notebooks" / "01_attack.ipynb").exists()
            assert copy.profile.read_text() == TINY.read_text()
            (copy.folder / "results" / "tiny").mkdir(parents=True)
            (copy.folder / "results" / "tiny" / "distillation.csv").write_text(text)
            copy.runs.mkdir()
            (copy.runs / "makes.log").write_text("".join(f"now {make} host 1 2.0\n" for make in makes))

        return run

    engines = {
        "plain": engine("a,b\n1,2\n", ["attacked k1", "measured k2"]),
        "other": engine("a,b\n1,2\n", ["attacked k1", "measured k2"]),
        "wrong": engine("a,b\n1,3\n", ["attacked k1", "measured k2"]),
        "twice": engine("a,b\n1,2\n", ["attacked k1", "attacked k1"]),
    }
    monkeypatch.setattr(module, "ENGINES", engines)
    return module


@pytest.mark.parametrize(("other", "code"), [("other", 0), ("wrong", 1), ("twice", 1)])
def test_what_differs_is_told(subject, tmp_path, capsys, other, code):
    out = tmp_path / "same.json"
    assert subject.main([str(TINY), "--engines", "plain", other, "--out", str(out)]) == code
    written = json.loads(out.read_text())
    assert written["same"] is (code == 0)
    assert written["engines"]["plain"]["made"] == 2
    assert written["engines"][other]["made_twice"] == (["attacked k1"] if other == "twice" else [])
    assert capsys.readouterr().out.splitlines()[-1].startswith("NOT" if code else "the same tables")


def test_an_unknown_engine(subject, tmp_path):
    with pytest.raises(UsageError, match="unknown engine 'slrum'; allowed: plain, other"):
        subject.main([str(TINY), "--engines", "slrum", "--out", str(tmp_path / "x")])


def test_no_tables_are_not_the_same(subject):
    assert not subject.same({"plain": {"tables": {}, "made_twice": []}})
