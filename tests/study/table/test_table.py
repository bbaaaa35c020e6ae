import json
import subprocess
import sys
import time

import pytest

from distill_lib.errors import UsageError
from distill_lib.study import execute
from distill_lib.study.jobs import Job
from distill_lib.study.table import records
from distill_lib.study.table.load import load_table
from distill_lib.study.table.table import ordered


@pytest.fixture
def write(tmp_path):
    """Writes a table of commands and loads it."""

    def write(*jobs, **options):
        path = tmp_path / "toy.json"
        path.write_text(json.dumps({"name": "toy", "jobs": jobs}))
        return load_table(str(path), root=tmp_path, runs=tmp_path / "runs", **options)

    return write


def one(name, *needs, run="true", **rest):
    return {"name": name, "command": ["sh", "-c", run], "needs": list(needs), **rest}


def test_a_table_of_commands_is_ordered_and_complete(write, tmp_path):
    table = write(one("b", "a", minutes=2, gpus=1, memory_mb=50, makes=["f"]), one("a"), time_scale=1.5)
    assert [job.name for job in table.jobs] == ["a", "b"]
    assert table.job("b") == Job(
        "b", needs=("a",), makes=("f",), gpus=1, minutes=3.0, memory_mb=50, command=("sh", "-c", "true")
    )
    path = str(tmp_path / "toy.json")
    assert (table.name, table.source) == ("toy", path)
    assert table.command(table.job("b")) == [sys.executable, "-m", "distill_lib", "job", path, "b"]


def test_a_key_names_what_is_run_and_what_it_is_made_from(write):
    def keys(*jobs):
        table = write(*jobs)
        return [table.key(job) for job in table.jobs]

    first = keys(one("a"), one("b", "a"))
    assert all(len(key) == 16 for key in first)
    assert keys(one("a", minutes=3, gpus=2), one("b", "a", memory_mb=9)) == first  # what a job wants changes no result
    assert keys(one("a", run="false"), one("b", "a"))[1] != first[1]
    assert keys(one("a"), one("b", "a", makes=["f"]))[1] != first[1]
    assert len({*first, *keys(one("a"), one("b"))}) == 3


def test_a_command_runs_once_and_leaves_a_record(write, tmp_path, capsys):
    table = write(one("a", run="echo said; echo x >> f", makes=["f"]))
    (job,) = table.jobs
    assert not table.finished(job)
    assert [table.run(job), table.run(job)] == [0, 0]
    assert table.finished(job)
    assert (tmp_path / "f").read_text() == "x\n"
    said = capsys.readouterr().out
    assert "said\na: done in" in said
    assert said.endswith("a: unchanged\n")
    (line,) = (table.runs / "makes.log").read_text().splitlines()
    assert line.split()[1:3] == ["command", table.key(job)]
    record = records.read(table.runs, table.key(job))
    assert (record["name"], record["makes"]) == ("a", ["f"])
    (tmp_path / "f").unlink()
    assert not table.finished(job)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ("echo half; echo 'no disk' >&2; exit 3", "the command ended with code 3: no disk"),
        ("exit 4", "the command ended with code 4: it said nothing"),
        ("true", "the command ended without making f"),
    ],
)
def test_a_failure_is_told_and_forgotten_when_mended(write, tmp_path, run, why, capsys):
    table = write(one("a", run=f"test -e mended && touch f || {{ {run}; }}", makes=["f"]))
    (job,) = table.jobs
    assert table.failure(job) is None
    assert table.run(job) == 1
    assert f"a: FAILED: {why}" in capsys.readouterr().err
    failure = table.failure(job)
    assert failure["message"] == why
    assert failure["notebook"] is None
    with open(failure["log"]) as log:
        assert ("no disk" in log.read()) == ("no disk" in run)
    assert not (table.runs / "makes.log").exists()
    (tmp_path / "mended").touch()
    assert table.run(job) == 0
    assert table.failure(job) is None
    assert not list((table.runs / "failed").iterdir())


def test_a_failure_is_that_of_its_own_key(write):
    table = write(one("a", run="exit 1"))
    table.run(table.jobs[0])
    other = write(one("a", run="exit 2"))
    assert other.failure(other.jobs[0]) is None


def test_a_command_that_is_none_fails(write):
    table = write({"name": "a", "command": ["/no/such"]})
    assert table.run(table.jobs[0]) == 1
    assert table.failure(table.jobs[0])["message"] == "'/no/such' cannot be run (No such file or directory)"


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([one("a", "b")], "job 'a' needs 'b', which no job is; allowed: a"),
        ([one("a", "b"), one("b", "a")], "in a circle: a -> b -> a"),
        ([one("a"), one("a")], "two jobs are called 'a'"),
        ([one("a", minutes=0)], "'minutes' of job 'a' is 0; allowed: a number above 0"),
        ([one("a", minutes=-1.5)], "'minutes' of job 'a' is -1.5; allowed"),
        ([one("a", minutes="3")], "'minutes' of job 'a' is '3'; allowed"),
        ([one("a", minutes=float("nan"))], "'minutes' of job 'a' is nan; allowed"),
        ([one("a", gpus=-1)], "'gpus' of job 'a' is -1; allowed: a whole number, at least 0"),
        ([one("a", gpus=True)], "'gpus' of job 'a' is True; allowed"),
        ([one("a", memory_mb=0)], "'memory_mb' of job 'a' is 0; allowed"),
        ([one("A b")], "'name' of job 'A b' is 'A b'; allowed: lower-case letters"),
        ([one("a") | {"needs": "b"}], "'needs' of job 'a' is 'b'; allowed: a list"),
        ([one("a") | {"cpus": 1}], "unknown setting of job 1 'cpus'; allowed: name, command"),
        ([{"name": "a"}], "'command' of job 'a' is None; allowed: a list of one or more words"),
        ([{"name": "a", "command": []}], "'command' of job 'a' is []; allowed"),
        (["a"], "job 1 of the table is 'a'; allowed: an object"),
    ],
)
def test_a_wrong_table_is_one_sentence(write, jobs, words):
    with pytest.raises(UsageError) as caught:
        write(*jobs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"jobs": []}', '{"name": "x", "jobs": {}}'])
def test_a_file_that_is_no_table(tmp_path, text):
    path = tmp_path / "t.json"
    with pytest.raises(UsageError, match=r"'.*t\.json' is no JSON table that can be read"):
        load_table(str(path))
    path.write_text(text)
    with pytest.raises(UsageError, match=r"'.*t\.json' is no (JSON )?table"):
        load_table(str(path))


def test_wrong_options_are_one_sentence(write):
    with pytest.raises(UsageError, match=r"seeds \[0\] mean nothing to"):
        write(one("a"), seeds=[0])
    with pytest.raises(UsageError, match="the time scale is 0; allowed: a number above 0"):
        write(one("a"), time_scale=0)
    with pytest.raises(UsageError, match=r"unknown profile 'nope'; allowed: gpu, laptop, paper, quick, a \.toml"):
        load_table("nope")
    with pytest.raises(UsageError, match="unknown job 'z' of table 'toy'; allowed: a"):
        write(one("a")).job("z")


def test_ten_thousand_jobs_take_seconds(tmp_path):
    jobs = [one(f"j{i}", *[f"j{i - 1}"] * (i > 0)) for i in range(10_000)]
    (tmp_path / "t.json").write_text(json.dumps({"name": "t", "jobs": jobs}))
    began = time.process_time()
    table = load_table(str(tmp_path / "t.json"), runs=tmp_path / "runs")
    assert not any(map(table.finished, table.jobs))
    assert len({table.key(job) for job in table.jobs}) == 10_000
    assert time.process_time() - began < 5


def test_no_torch_is_imported_for_a_table_of_commands(write, tmp_path):
    write(one("a"))
    code = "import sys; from distill_lib.__main__ import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    words = [sys.executable, "-c", code, "job", str(tmp_path / "toy.json"), "a"]
    environment = {**execute.importing(), "DISTILL_RUNS": str(tmp_path / "runs")}
    assert subprocess.run(words, env=environment, check=False).returncode == 0
    assert list((tmp_path / "runs" / "jobs").glob("*.json"))


def test_order_keeps_what_it_can():
    jobs = [Job("c"), Job("b", needs=("a",)), Job("a")]
    assert [job.name for job in ordered(jobs)] == ["c", "a", "b"]
