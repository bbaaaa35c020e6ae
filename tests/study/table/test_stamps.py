import json

import pytest

from distill_lib import __main__ as main_module
from distill_lib.study.table.load import load_table
from distill_lib.study.table.stamps import LONG_AGO, described, refresh


@pytest.fixture
def table(tmp_path):
    """Two commands, the second of which needs the first."""
    jobs = [
        {"name": "a", "command": ["touch", "a"], "makes": ["a"], "minutes": 2.5, "memory_mb": 10, "gpus": 1},
        {"name": "b", "command": ["true"], "needs": ["a"]},
    ]
    (tmp_path / "t.json").write_text(json.dumps({"name": "t", "jobs": jobs}))
    return load_table(str(tmp_path / "t.json"), root=tmp_path, runs=tmp_path / "runs")


def test_stamps_follow_the_store(table):
    first, second = table.jobs
    folder = refresh(table)
    assert list(folder.iterdir()) == []
    for job in table.jobs:
        table.run(job)
    refresh(table)
    assert {each.name for each in folder.iterdir()} == {table.key(job) for job in table.jobs}
    assert {each.stat().st_mtime for each in folder.iterdir()} == {LONG_AGO}  # none is newer than another
    (table.root / "a").unlink()
    refresh(table)
    assert [each.name for each in folder.iterdir()] == [table.key(second)]
    assert not table.finished(first)


def test_other_tables_stamps_stay(table):
    folder = table.runs / "stamps"
    folder.mkdir(parents=True)
    (folder / "0123456789abcdef").touch()
    refresh(table)
    assert (folder / "0123456789abcdef").exists()


def test_the_table_is_described_by_key(table):
    found = described(table)
    first, second = (table.key(job) for job in table.jobs)
    assert found[first] == {
        "name": "a", "needs": [], "command": table.command(table.jobs[0]), "cores": 1, "gpus": 1, "minutes": 2.5,
        "memory_mb": 10,
    }  # fmt: skip
    assert found[second]["needs"] == [first]


def test_the_command_writes_json_and_says_what_is_wrong(table, monkeypatch, capsys):
    monkeypatch.setenv("DISTILL_RUNS", str(table.runs))
    assert main_module.main(["stamps", table.source]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"stamps": str(table.runs / "stamps"), "jobs": described(table)}
    assert main_module.main(["stamps", "nope"]) == 2
    assert capsys.readouterr().err.startswith("unknown profile 'nope'; allowed:")
    table.runs.joinpath("stamps").rmdir()
    table.runs.joinpath("stamps").write_text("a file in the way")
    assert main_module.main(["stamps", table.source]) == 2
    assert "cannot write to" in capsys.readouterr().err
