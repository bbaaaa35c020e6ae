import json

import pytest

from distill_lib.tools.cluster import doctor as subject
from distill_lib.tools.cluster.submit import Options

FIRST = {"node": "n1", "device": "0", "writes": "", "torch": "2.0 computes on a GPU: 2"}
SECOND = {"node": "n2", "device": "0", "writes": "", "sees": True, "locked": True}


def judged(first=(), second=(), wants_gpu=True):
    """The findings on a probe that differs from a good one."""
    found = {"first": {**FIRST, **dict(first)}, "second": None if second is None else {**SECOND, **dict(second)}}
    return list(subject.judge(found, wants_gpu))


def test_all_is_well():
    found = judged()
    assert [finding.what for finding in found] == ["store", "store", "lock", "GPU", "torch"]
    assert all(finding.fine for finding in found)
    assert str(found[2]) == "ok  lock: n2 could not take the lock that n1 held"


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"writes": "Read-only file system"}, {}, "BAD store: n1: Read-only file system"),
        ({}, {"writes": "Permission denied"}, "BAD store: n2: Permission denied"),
        ({}, {"locked": False}, "BAD lock: n2 got the lock that n1 held"),
        ({}, {"sees": False}, "BAD lock: n2 does not see what n1 writes"),
        ({"device": ""}, {}, "BAD GPU: n1: Slurm gave no device"),
        ({"torch": "2.0 sees no GPU"}, {}, "BAD torch: n1: 2.0 sees no GPU"),
    ],
)
def test_one_thing_is_wrong(first, second, words):
    bad = [str(finding) for finding in judged(first, second) if not finding.fine]
    assert len(bad) == 1
    assert bad[0].startswith(words)


def test_a_second_node_that_does_not_answer():
    found = list(subject.judge({"first": FIRST, "second": {"node": "n2", "error": "no answer"}}, True))
    assert [str(finding) for finding in found if not finding.fine] == ["BAD store: n2: no answer"]


def test_one_node_alone_is_no_fault_but_said():
    assert "untried" in str(judged(second=None)[1])


def test_a_profile_without_gpus_wants_torch_alone():
    found = judged({"torch": "2.0 sees no GPU", "device": ""}, wants_gpu=False)
    assert str(found[-1]) == "ok  torch: n1: 2.0 works, without a GPU"
    assert not judged({"torch": "cannot be imported: x"}, wants_gpu=False)[-1].fine


def test_a_job_that_does_not_start_is_cancelled(slurm, table):
    said = []
    found = subject.examine(table, Options(), said.append, patience=0.1)
    assert said[:2] == [
        "ok  partition: 'main' has 3 nodes, at most 2 GPUs on one; each job fits",
        f"ok  store: {str(table.runs)!r} can be written and locked from here",
    ]
    assert "BAD job: job 1 still waits (Priority) after 0.1 seconds and was cancelled" in said[2]
    assert slurm.queue[0][2] == "CANCELLED"
    assert [finding.fine for finding in found] == [True, True, False]


def test_what_the_job_found_is_said(slurm, table):
    (table.runs / "cluster").mkdir(parents=True)
    (table.runs / "cluster" / "doctor-1.json").write_text(json.dumps({"first": FIRST, "second": SECOND}))
    (slurm.folder / "squeue").write_text("#!/bin/sh\nexit 0\n")
    found = subject.examine(table, Options(), lambda text: None)
    assert [finding.what for finding in found] == ["partition", "store", "store", "store", "lock", "torch"]
    assert "--time=1 --nodes=2" in slurm.calls[0]
    assert not list((table.runs / "cluster").glob("*.json"))


def test_a_job_that_no_node_can_run(slurm, write_table):
    from distill_lib.study.table.load import load_table

    table = load_table(write_table(a={"gpus": 8}))
    found = subject.examine(table, Options(), lambda text: None, patience=0.1)
    assert str(found[0]).startswith("BAD partition: job 'a' wants 8 GPUs")
