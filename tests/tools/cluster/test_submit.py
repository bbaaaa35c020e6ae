import os
import threading

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.jobs import Job
from distill_lib.study.table.load import load_table
from distill_lib.tools.cluster import submit as subject
from distill_lib.tools.cluster.slurm import Partition
from distill_lib.tools.cluster.submit import Options, job_name


def submit(table, **options):
    """The jobs that a submit submits."""
    return [job.name for job in subject.submit(table, Options(**options), lambda text: None).todo]


def word(call, name):
    """The value of an sbatch's option, None without it."""
    return next((each.split("=", 1)[1] for each in call.split() if each.startswith(f"--{name}=")), None)


def test_one_sbatch_a_job_after_those_it_needs(slurm, table, runs):
    assert submit(table) == ["a", "b", "c", "d"]
    names = [job_name(table, job) for job in table.jobs]
    assert [word(call, "job-name") for call in slurm.calls] == names
    assert all(name.startswith("study:") and len(name) == 22 for name in names)
    assert [word(call, "dependency") for call in slurm.calls] == [None, "afterok:1", "afterok:1", "afterok:2:3"]
    assert {word(call, "kill-on-invalid-dep") for call in slurm.calls} == {"yes"}
    assert {word(call, "comment") for call in slurm.calls} == {f"store:{runs}"}
    assert all(
        "--wrap=exec" in call and call.endswith(f"job {table.source} {n}")
        for call, n in zip(slurm.calls, "abcd", strict=True)
    )


def test_wants_and_what_a_person_adds(slurm, write_table):
    wants = {"gpus": 2, "minutes": 2.2, "memory_mb": 500}
    table = load_table(write_table(a=wants, b={"minutes": 0.1}))
    submit(table, partition="short", account="lab", extra=("--qos=long",))
    first, second = slurm.calls
    given = {name: word(first, name) for name in ("gres", "time", "mem", "partition", "account", "qos")}
    assert given == {
        "gres": "gpu:2", "time": "3", "mem": "500M", "partition": "short", "account": "lab", "qos": "long"
    }  # fmt: skip
    assert (word(second, "gres"), word(second, "time"), word(second, "mem")) == (None, "1", None)


def test_submitted_again_nothing_is_submitted(slurm, table):
    submit(table)
    assert submit(table) == []
    assert len(slurm.calls) == 4


def test_what_the_store_has_is_neither_submitted_nor_waited_for(slurm, table, finish):
    finish(table, "a", "b")
    assert submit(table) == ["c", "d"]
    assert [word(call, "dependency") for call in slurm.calls] == [None, "afterok:1"]


def test_a_refused_job_stops_it_with_a_count_and_the_same_command_goes_on(slurm, table):
    slurm.write("refuse", "2")
    with pytest.raises(
        UsageError, match=r"submitted 2 of 4 jobs, then for job 'c', sbatch: .*policy; the same command"
    ):
        submit(table)
    os.unlink(slurm.folder / "refuse")
    assert submit(table) == ["c", "d"]
    assert len({entry[1] for entry in slurm.queue}) == len(slurm.queue) == 4


def test_where_the_first_is_refused_nothing_was_submitted(slurm, table):
    slurm.write("refuse", "0")
    with pytest.raises(UsageError, match=r"^nothing was submitted: for job 'a', sbatch: "):
        submit(table)


def test_what_waits_for_a_job_that_is_gone_is_replaced(slurm, table):
    submit(table)
    slurm.set(job_name(table, table.job("b")), "FAILED")
    assert submit(table) == ["b", "d"]
    d = [entry[2] for entry in slurm.queue if entry[1] == job_name(table, table.job("d"))]
    assert d == ["CANCELLED", "PENDING"]
    assert word(slurm.calls[-1], "dependency") == "afterok:5:3"


def test_what_slurm_is_about_to_cancel_is_replaced(slurm, table):
    submit(table)
    slurm.set(job_name(table, table.job("d")), "PENDING", "DependencyNeverSatisfied")
    assert submit(table) == ["d"]


def test_a_job_that_runs_is_left_though_its_need_is_lost(slurm, table, finish):
    finish(table, "a")
    submit(table)
    slurm.set(job_name(table, table.job("b")), "RUNNING")
    (table.runs / "jobs" / f"{table.key(table.job('a'))}.json").unlink()
    assert submit(table) == ["a", "c", "d"]  # d was to wait for the c that is replaced


def test_a_job_that_ends_is_waited_for(slurm, table, monkeypatch):
    monkeypatch.setattr(subject, "SETTLING", 0.5)
    submit(table)
    slurm.set(job_name(table, table.job("a")), "COMPLETING")
    threading.Timer(0.1, slurm.set, (job_name(table, table.job("a")), "RUNNING")).start()
    assert submit(table) == []
    slurm.set(job_name(table, table.job("a")), "COMPLETING")
    assert submit(table) == ["a", "b", "c", "d"]


def test_the_jobs_of_another_store_are_another_matter(slurm, table, tmp_path, monkeypatch):
    submit(table)
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "other"))
    assert submit(load_table(table.source)) == ["a", "b", "c", "d"]


def test_two_at_once_make_one_set(slurm, table):
    found = []
    both = [threading.Thread(target=lambda: found.append(submit(table))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(found) == [[], ["a", "b", "c", "d"]]
    assert len(slurm.calls) == 4


def test_a_lock_held_for_too_long_names_its_holder(runs):
    said = []
    held = f"process {os.getpid()} on "
    with (
        subject.alone(runs, said.append),
        pytest.raises(UsageError, match=rf"cluster.lock' has been locked by {held}"),
        subject.alone(runs, said.append, patience=0.1),
    ):
        pass
    assert len(said) == 1
    assert held in said[0]
    with subject.alone(runs, said.append, patience=0):
        assert len(said) == 1


def test_a_submission_that_outlives_its_command_keeps_the_lock(runs):
    with subject.alone(runs, print) as file:
        child = os.dup(file)  # as a child process has it
    with pytest.raises(UsageError, match="has been locked"), subject.alone(runs, lambda text: None, patience=0.1):
        pass
    os.close(child)
    with subject.alone(runs, print, patience=0) as file:
        assert file > 0


def test_a_store_without_locks(runs, monkeypatch):
    def refuse(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(subject.fcntl, "flock", refuse)
    with (
        pytest.raises(UsageError, match=r"cannot lock in '.*runs' \(No locks available\); allowed"),
        subject.alone(runs, print),
    ):
        pass


def test_a_store_that_is_a_file(slurm, table):
    table.runs.write_text("")
    with pytest.raises(UsageError, match=r"cannot write to '.*runs'"):
        submit(table)
    assert slurm.calls == []


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        ({"gpus": 3}, r"job 'a' wants 3 GPUs of one node; partition 'main' has at most 2; allowed: another"),
        ({"memory_mb": 10**6}, r"job 'a' wants 1000000 MB of one node; partition 'main' has at most 64000; .*--mem"),
        ({"minutes": 20000}, r"job 'a' wants 20000 minutes; partition 'main' has at most 10080; .*--time-scale"),
    ],
)
def test_more_than_any_node_has(slurm, write_table, wants, words):
    table = load_table(write_table(b=[], a=wants))
    with pytest.raises(UsageError, match=words):
        submit(table)
    assert slurm.calls == []


def test_cores_are_those_that_a_job_computes_on(table):
    job, small = Job("a", notebook="01_attack"), [Partition("p", True, None, 1, 0, 1, 2)]
    assert [subject.cores(job), subject.cores(job, small), subject.cores(table.jobs[0], small)] == [4, 2, 1]
    assert word(" ".join(subject.arguments(table, table.jobs[0], Options())), "cpus-per-task") == "1"


def test_where_slurm_knows_no_memory_none_is_asked_for(slurm, write_table):
    slurm.write("nodes", "main|main*|infinite|1|2|16|(null)\n")
    table = load_table(write_table(a={"memory_mb": 500}))
    assert submit(table) == ["a"]
    assert word(slurm.calls[0], "mem") is None


def test_what_some_node_has_is_enough():
    kinds = [Partition("p", True, 10, 100, 4, 1), Partition("p", True, None, 8000, 0, 1)]
    assert subject.check_wants([Job("a", gpus=4, minutes=99, memory_mb=7000)], kinds) is None


def test_what_a_person_asks_for_instead_is_left_to_slurm():
    kinds, job = [Partition("p", True, 10, 100, 0, 1)], Job("a", memory_mb=7000)
    assert subject.check_wants([job], kinds, ["--mem=90M"]) is None
    with pytest.raises(UsageError, match="MB of one node"):
        subject.check_wants([job], kinds, ["--time=5"])


@pytest.mark.parametrize("text", ["--job-name=x", "-J x", "--dependency=afterok:1", "-d1", "--array=0-3", "-W", "-N2"])
def test_extra_words_that_undo_a_job(text):
    with pytest.raises(UsageError, match=r"--extra '.*' would undo .*; allowed: others"):
        subject.parse_extra([text])


def test_extra_words():
    texts = ["--qos=long --constraint='a b'", "--mem=2G"]
    assert subject.parse_extra(texts) == ("--qos=long", "--constraint=a b", "--mem=2G")
    with pytest.raises(UsageError, match="cannot be read"):
        subject.parse_extra(["'"])


def test_a_log_in_a_folder_with_a_percent_sign(tmp_path):
    assert subject.log_pattern(tmp_path / "5%j", "a-b").endswith("/5%%j/cluster/logs/a-b-%j.log")
