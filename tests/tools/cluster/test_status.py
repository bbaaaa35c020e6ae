import pytest

from distill_lib.study.progress import Reporter
from distill_lib.study.table import records
from distill_lib.tools.cluster import status as subject
from distill_lib.tools.cluster.submit import Options, job_name, logs_folder, submit

KILLED = "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2030-01-02T03:04:05 {} ***\n"


@pytest.fixture
def submitted(slurm, table):
    """The table, in the queue."""
    submit(table, Options(), lambda text: None)
    return table


def found(table):
    """State and reason by job."""
    return {each.job.name: (each.state, each.why) for each in subject.states(table)}


def log(table, name, text, number=5):
    """Write what a job has printed."""
    path = logs_folder(table.runs) / f"{name}-{table.key(table.job(name))}-{number}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_done_running_pending(slurm, submitted, finish):
    finish(submitted, "a")
    slurm.set(job_name(submitted, submitted.job("a")), "COMPLETED")
    slurm.set(job_name(submitted, submitted.job("b")), "RUNNING", node="n2")
    assert found(submitted) == {
        "a": ("done", ""),
        "b": ("running", "job 2 on n2, for 1:00"),
        "c": ("pending", "waits for other jobs"),
        "d": ("pending", "waits for other jobs"),
    }


def test_a_running_job_says_how_far_it_is(slurm, submitted):
    job = submitted.job("a")
    slurm.set(job_name(submitted, job), "RUNNING", node="n2")
    file = records.progress_file(submitted.runs, submitted.key(job))
    file.parent.mkdir(parents=True, exist_ok=True)
    Reporter(file).report("pretrained", 30, 40)
    assert found(submitted)["a"][1].endswith("for 1:00: pretrained 30/40")


def test_never_submitted(slurm, table):
    assert set(found(table).values()) == {
        ("missing", "not submitted"),
        ("missing", "not run: it needs a, which is missing"),
    } | {("missing", "not run: it needs b, which is missing")}


def test_a_failure_has_its_cause_and_its_log_and_bars_what_needs_it(slurm, submitted, finish):
    finish(submitted, "a", "c")
    records.fail(
        submitted.runs, "b", submitted.key(submitted.job("b")), "error", "the command ended with code 3: oh", "oh\n"
    )
    for name, state in (("a", "COMPLETED"), ("b", "FAILED"), ("c", "COMPLETED"), ("d", "CANCELLED")):
        slurm.set(
            job_name(submitted, submitted.job(name)), state, "DependencyNeverSatisfied" if name == "d" else "None"
        )
    states = {each.job.name: each for each in subject.states(submitted)}
    assert (states["b"].state, states["b"].why) == ("failed", "the command ended with code 3: oh")
    assert states["b"].log.read_text() == "oh\n"
    assert (states["d"].state, states["d"].why) == ("missing", "not run: it needs b, which failed")
    text = list(subject.lines(submitted, list(states.values())))
    assert text[0] == "toy: 4 jobs: 2 done, 0 running, 0 pending, 1 failed, 1 missing"
    assert f"           log: {states['b'].log}" in text
    assert len(text) == 4


def test_a_kept_notebook_is_named(slurm, submitted, monkeypatch):
    record = {"message": "cell 2 failed", "log": "/x/b.log", "notebook": "/x/b.ipynb"}
    monkeypatch.setattr(type(submitted), "failure", lambda self, job: record if job.name == "b" else None)
    slurm.set(job_name(submitted, submitted.job("b")), "FAILED")
    assert found(submitted)["b"] == ("failed", "cell 2 failed; kept: /x/b.ipynb")


@pytest.mark.parametrize(
    ("state", "words"),
    [("TIMEOUT", "time limit"), ("NODE_FAIL", "node failed"), ("OUT_OF_MEMORY", "memory"), ("PREEMPTED", "preempted")],
)
def test_what_slurm_did_while_it_remembers(slurm, submitted, state, words):
    slurm.set(job_name(submitted, submitted.job("a")), state)
    assert found(submitted)["a"][0] == "failed"
    assert words in found(submitted)["a"][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (KILLED.format("DUE TO TIME LIMIT"), "time limit"),
        (KILLED.format("DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS") + "Terminated\n", "its node failed"),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch.\n", "out of memory"),
        ("Killed\n", "ended without a result: Killed"),
        ("", "ended without a result: its log is empty"),
    ],
)
def test_what_slurm_did_and_has_forgotten(slurm, table, text, words):
    path = log(table, "a", "loss 1.0\n" + text if text else "")
    log(table, "a", "an earlier attempt\n", number=4)
    state = subject.states(table)[0]
    assert (state.state, state.log) == ("failed", path)
    assert words in state.why


def test_a_time_limit_after_an_older_failure(slurm, table):
    records.fail(table.runs, "a", table.key(table.job("a")), "error", "old", "")
    log(table, "a", KILLED.format("DUE TO TIME LIMIT"))
    assert "time limit" in found(table)["a"][1]


def test_a_failure_after_an_older_time_limit(slurm, table):
    log(table, "a", KILLED.format("DUE TO TIME LIMIT") + "line\n" * 9)
    records.fail(table.runs, "a", table.key(table.job("a")), "error", "new", "")
    assert found(table)["a"] == ("failed", "new")


def test_cancelled_by_hand(slurm, submitted, table):
    slurm.set(job_name(submitted, submitted.job("a")), "CANCELLED")
    assert found(submitted)["a"] == ("missing", "cancelled")
    slurm.write("queue", "")
    log(table, "a", KILLED.format(""))
    assert found(table)["a"] == ("missing", "cancelled")


def test_never_started(slurm, submitted):
    slurm.set(job_name(submitted, submitted.job("a")), "FAILED", "BadConstraints")
    assert found(submitted)["a"] == ("failed", "Slurm did not start it (BadConstraints)")


def test_sacct_remembers_longer(slurm, table):
    name = job_name(table, table.job("a"))
    sacct = slurm.folder / "sacct"
    sacct.write_text(f"#!/bin/sh\necho '3|{name}|FAILED|0:10|n1'\necho '5|{name}|TIMEOUT|1:00|n1'\n")
    sacct.chmod(0o755)
    assert "time limit" in found(table)["a"][1]


def test_of_many_a_few_are_shown(slurm, write_table):
    from distill_lib.study.table.load import load_table

    table = load_table(write_table(**{f"j{number}": [] for number in range(50)}))
    text = list(subject.lines(table, subject.states(table)))
    assert text[0] == "toy: 50 jobs: 0 done, 0 running, 0 pending, 0 failed, 50 missing"
    assert len(text) == 22
    assert text[-1] == "  missing  and 30 others"
