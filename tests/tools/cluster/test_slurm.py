import pytest

from distill_lib.errors import UsageError
from distill_lib.tools.cluster import slurm as subject


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("10:00", 10), ("1:30:00", 90), ("7-00:00:00", 10080), ("0:30", 0.5), ("infinite", None), ("n/a", None)],
)
def test_a_limit_in_minutes(text, minutes):
    assert subject.minutes(text) == minutes


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [("(null)", 0), ("gpu:2", 2), ("gpu:a100:4(S:0-1)", 4), ("gpu:a:2(S:0,1),gpu:b:1,shard:8", 3), ("mygpu:5", 0)],
)
def test_gpus_of_a_node(slurm, gres, gpus):
    slurm.write("nodes", f"main|main*|infinite|1000|1|8|{gres}\n")
    assert [each.gpus for each in subject.partitions()] == [gpus]


def test_partitions(slurm):
    kinds = subject.partitions()
    assert kinds[0] == subject.Partition("main", True, 10080, 64000, 2, 2, 16)
    assert [each.name for each in subject.chosen(None)] == ["main", "main"]
    assert [each.name for each in subject.chosen("short,main")] == ["main", "main", "short"]


def test_an_unknown_partition(slurm):
    with pytest.raises(UsageError, match=r"unknown partition 'gpux'; allowed: main, short$"):
        subject.chosen("gpux")


def test_no_default_partition(slurm):
    slurm.write("nodes", "a|a|infinite|1000|1|8|gpu:1\n")
    with pytest.raises(UsageError, match=r"no --partition given.*allowed: a$"):
        subject.chosen(None)


def test_the_queue_has_the_living_job_of_a_name_and_else_the_last(slurm, tmp_path):
    mine = f"store:{tmp_path}"
    slurm.write(
        "queue",
        f"7|study:x|PENDING|0:00||Priority|{mine}\n9|study:x|FAILED|0:10|n1|NonZeroExitCode|{mine}\n"
        f"8|study:y|TIMEOUT|0:10|n1|x|{mine}\n10|study:y|FAILED|0:10|n1|x|{mine}\n"
        "11|study:z|RUNNING|0:10|n1|None|store:/elsewhere\n12|other|RUNNING|0:10|n1|None|a|b\n",
    )
    found = subject.queue(tmp_path, over=True)
    assert {name: each.id for name, each in found.items()} == {"study:x": "7", "study:y": "10", "other": "12"}
    assert set(subject.queue(tmp_path)) == {"study:x", "other"}


def test_a_refusal_has_slurms_words_without_its_prefixes(slurm):
    slurm.write("refuse", "0")
    with pytest.raises(subject.SlurmError, match=r"^sbatch: Batch job submission failed: Job violates [\w/]+ policy$"):
        subject.sbatch(["--job-name=x"])


def test_no_answer(slurm, monkeypatch):
    monkeypatch.setattr(subject, "PATIENCE", 0.2)
    (slurm.folder / "squeue").write_text("#!/bin/sh\nexec sleep 20\n")
    with pytest.raises(subject.SlurmError, match=r"squeue did not answer in 0.2 seconds"):
        subject.queue(slurm.folder)


def test_settings_of_a_persons_own_squeue_hide_nothing(slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    (slurm.folder / "squeue").write_text('#!/bin/sh\necho "1|x|PENDING|0:00|n|r|${SQUEUE_STATES-unset}"\n')
    assert subject.queue(slurm.folder)["x"].comment == "unset"


def test_cancel_of_many_jobs_is_a_few_calls(slurm):
    (slurm.folder / "scancel").write_text(f'#!/bin/sh\necho $# >>"{slurm.folder}/calls"\n')
    subject.scancel([str(number) for number in range(1200)])
    assert slurm.calls == ["501", "501", "201"]
    subject.scancel([])
    assert len(slurm.calls) == 3
