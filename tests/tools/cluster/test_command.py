import json

import pytest

from distill_lib.study.table.load import load_table
from distill_lib.tools.cluster.submit import job_name


def one_line(answer, *words):
    """Whether an answer is one line of stderr with exit code 2."""
    code, out, error = answer
    assert (code, out, error.count("\n")) == (2, "", 1), answer
    for word in words:
        assert word in error


def test_submit_then_status_then_cancel(slurm, cluster, write_table):
    source = write_table(a={"gpus": 1}, b=["a"])
    code, out, _ = cluster("submit", source)
    assert code == 0
    assert "submitted 2 jobs of toy (0 done, 0 in the queue)" in out
    assert f"cluster status {source}" in out
    assert "submitted 0 jobs of toy (0 done, 2 in the queue)" in cluster("submit", source)[1]
    code, out, _ = cluster("status", source)
    assert code == 0
    assert "2 jobs: 0 done, 0 running, 2 pending, 0 failed, 0 missing" in out
    slurm.write(
        "queue",
        (slurm.folder / "queue").read_text() + "3|study:foreign|RUNNING|0:00|n1|None|\n4|x|RUNNING|0:00|n1|None|\n",
    )
    assert cluster("cancel", source)[1].startswith("cancelled 2 jobs of toy")
    assert [entry[2] for entry in slurm.queue] == ["CANCELLED", "CANCELLED", "RUNNING", "RUNNING"]
    code, out, _ = cluster("status", source)
    assert (code, out.count("missing ")) == (0, 2)
    assert f"cluster submit {source}" in out


def test_a_failed_job_makes_status_end_with_1(slurm, cluster, write_table):
    source = write_table(a=[])
    cluster("submit", source)
    table = load_table(source)
    slurm.set(job_name(table, table.job("a")), "TIMEOUT")
    code, out, _ = cluster("status", source)
    assert code == 1
    assert "failed   a: time limit" in out


def test_a_dry_run_submits_and_writes_nothing(slurm, cluster, write_table, runs):
    code, out, error = cluster("submit", write_table(a=[], b=["a"]), "--dry-run", "--time-scale", "2")
    assert (code, error, slurm.calls, runs.exists()) == (0, "", [], False)
    assert out.splitlines()[:3] == [
        "would submit: a (10 min 00 s)",
        "would submit: b (10 min 00 s; after a)",
        "2 jobs of toy to submit (0 done, 0 in the queue)",
    ]
    assert "they may take 20 min 00 s without a GPU; the longest chain 20 min 00 s" in out
    assert "--kill-on-invalid-dep=yes" in out.splitlines()[-1]


def test_a_dry_run_without_slurm(no_slurm, cluster, write_table):
    code, out, _ = cluster("submit", write_table(a=[]), "--dry-run")
    assert code == 0
    assert out.startswith("no 'sbatch' on the PATH")
    assert "1 job of toy to submit" in out


@pytest.mark.parametrize("action", ["submit", "status", "cancel", "doctor"])
def test_no_slurm(no_slurm, cluster, write_table, action):
    one_line(cluster(action, write_table(a=[])), "no 'sbatch' on the PATH; allowed: a login node")


@pytest.mark.parametrize("action", ["submit", "status", "cancel", "doctor"])
def test_the_controller_is_down(slurm, cluster, write_table, action):
    slurm.write("down", "")
    one_line(cluster(action, write_table(a=[])), "Unable to contact slurm controller")
    assert slurm.calls == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--partition", "gpux"], "unknown partition 'gpux'; allowed: main, short"),
        (["--time-scale", "fast"], "--time-scale 'fast' is no number; allowed"),
        (["--time-scale", "0"], "the time scale is 0.0; allowed: a number above 0"),
        (["--time-scale", "nan"], "the time scale is nan; allowed"),
        (["--extra=--array=0-9"], "--extra '--array=0-9' would undo"),
        (["--seeds", "x"], "--seeds 'x' is not a list of seeds"),
        (["--data-dir", "/no/such"], "--data-dir '/no/such' is not a folder"),
        (["--nosuch"], "--nosuch"),
    ],
)
def test_wrong_options(slurm, cluster, write_table, words, said):
    one_line(cluster("submit", write_table(a=[]), *words), said)
    assert slurm.calls == []


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ({"a": {"gpus": 5}}, "job 'a' wants 5 GPUs"),
        ({"a": ["b"], "b": ["a"]}, "circle"),
        ({"a": ["nosuch"]}, "job 'a' needs 'nosuch', which no job is; allowed: a"),
        ({"a": {"minutes": 0}}, "'minutes' of job 'a' is 0; allowed: a number above 0"),
    ],
)
def test_wrong_tables(slurm, cluster, write_table, jobs, said):
    one_line(cluster("submit", write_table(**jobs)), said)
    assert slurm.calls == []


def test_wrong_words(slurm, cluster, write_table):
    one_line(cluster("submti", write_table(a=[])), "unknown action 'submti'; allowed: submit, status, cancel, doctor")
    one_line(cluster("cancel", write_table(a=[]), "--dry-run"), "--dry-run with 'cancel'")
    one_line(cluster("submit", "nosuch.json"), "'nosuch.json'")


def test_a_store_that_cannot_be_written(slurm, cluster, write_table, runs):
    runs.write_text("a file")
    one_line(cluster("submit", write_table(a=[])), repr(str(runs)))
    assert slurm.calls == []


def test_a_table_that_is_no_json(slurm, cluster, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps([1]))
    one_line(cluster("submit", str(tmp_path / "x.json")), "is no table")
