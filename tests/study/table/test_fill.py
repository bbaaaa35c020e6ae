"""Jobs that fill the store: what they make, how they are found, what ends them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study import execute
from distill_lib.study.runner import Outcome
from distill_lib.study.table import fill, records

TINY = (Path(__file__).parents[2] / "profiles" / "tiny.toml").read_text()
CHAIN = ("pretrain-s0", "attack-ctrl-s0", "rates-ctrl-shapes-s0")  # what `filled` has run


def made(table):
    """(kind, key) of each thing made, in order."""
    return [tuple(line.split()[1:3]) for line in (table.runs / "makes.log").read_text().splitlines()]


def test_a_job_makes_its_things_once_and_is_found(filled, capsys):
    before = made(filled)
    kinds = [kind for kind, _ in before]
    assert kinds == ["pretrained", "attacked", "aimed", "measured", "measured", "untrained", "measured"]
    assert [filled.finished(job) for job in filled.jobs] == [job.name in CHAIN for job in filled.jobs]
    assert [filled.run(filled.job(name)) for name in CHAIN] == [0, 0, 0]
    assert capsys.readouterr().out.endswith("rates-ctrl-shapes-s0: unchanged\n")
    assert made(filled) == before
    record = records.read(filled.runs, filled.key(filled.job(CHAIN[-1])))
    assert {tuple(each) for each in record["artefacts"]} == set(before)
    assert record["name"] == CHAIN[-1]
    assert not list((filled.runs / "jobs").glob("*progress*"))


def test_what_was_made_without_the_table_is_found(filled):
    shutil.rmtree(filled.runs / "jobs")
    assert [filled.finished(filled.job(name)) for name in CHAIN] == [True] * 3
    shutil.rmtree(filled.runs / "aimed")  # then nobody knows the target class
    assert [filled.finished(filled.job(name)) for name in CHAIN] == [True, True, False]


def test_what_is_deleted_is_made_again_and_nothing_else(filled):
    kind, key = made(filled)[1]
    assert kind == "attacked"
    (filled.runs / kind / key / "weights.safetensors").unlink()
    assert [filled.finished(filled.job(name)) for name in CHAIN] == [True, False, False]
    before = len(made(filled))
    assert filled.run(filled.job("attack-ctrl-s0")) == 0
    assert made(filled)[before:] == [(kind, key)]
    assert [filled.finished(filled.job(name)) for name in CHAIN] == [True] * 3


def test_a_failure_is_told_with_its_traceback(table, monkeypatch, capsys):
    job = table.job("pretrain-s0")

    def burst(*_):
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(fill.Fills, "_make", burst)
        assert table.run(job) == 1
    assert capsys.readouterr().err == "pretrain-s0: FAILED: RuntimeError: out of luck\n"
    failure = table.failure(job)
    assert failure["message"] == "RuntimeError: out of luck"
    assert "in burst" in Path(failure["log"]).read_text()
    assert table.run(job) == 0
    assert table.failure(job) is None


def test_what_a_person_can_put_right_is_said_and_kept(table, monkeypatch):
    def refuse(*_):
        raise UsageError("the store is full")

    monkeypatch.setattr(fill.Fills, "_make", refuse)
    job = table.job("pretrain-s0")
    with pytest.raises(UsageError, match="full"):
        table.run(job)
    assert (table.failure(job)["reason"], table.failure(job)["message"]) == ("usage", "the store is full")


def test_a_notebook_that_ends_is_in_the_manifest(table, monkeypatch, tmp_path):
    table.work.root = tmp_path
    record = {"name": "03_student", "notebook": "03_student", "key": "0" * 16, "wall_s": 2.0, "peak_rss_mb": 3.0}
    ends = {"done": 0, "unchanged": 0, "failed": 1}
    for status, code in ends.items():
        monkeypatch.setattr(fill.runner, "run", lambda jobs, _, s=status: [Outcome(jobs[0], "", s, "", record)])
        assert table.run(table.job("03_student")) == code
        assert (tmp_path / "results" / "tiny" / "manifest.json").exists()
    assert '"03_student"' in (tmp_path / "results" / "tiny" / "manifest.json").read_text()


def test_things_that_differ_in_what_decides_them_have_names_that_differ(table):
    names = {name: {fill.identity(task) for task in tasks} for name, tasks in table.work.tasks.items()}
    assert len(set().union(*names.values())) == sum(map(len, names.values()))
    first = table.work.tasks["pretrain-s0"][0]
    assert fill.identity(first) in names["pretrain-s0"]


@pytest.mark.slow
def test_ended_by_sigterm_it_keeps_its_checkpoint_and_goes_on(tmp_path):
    path, runs = tmp_path / "tiny.toml", tmp_path / "runs"
    path.write_text(TINY.replace('pretrain = "builtin"', 'pretrain = "patterns"').replace("batch = 1000", "batch = 64"))
    words = [sys.executable, "-m", "distill_lib", "job", str(path), "pretrain-s0"]
    environment = {**execute.importing(), "DISTILL_RUNS": str(runs), "DISTILL_CHECKPOINT_S": "0"}
    job = subprocess.Popen(words, env=environment)
    until = time.monotonic() + 100
    while not list(runs.glob("partial/pretrained-*/training.pt")):
        assert job.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 128 + signal.SIGTERM
    assert list(runs.glob("partial/pretrained-*/training.pt"))
    assert not list(runs.glob("failed/*"))
    assert subprocess.run(words, env={**environment, "DISTILL_CHECKPOINT_S": "9"}, check=False).returncode == 0
    assert len((runs / "makes.log").read_text().splitlines()) == 1
    assert os.listdir(runs / "tmp") == []
