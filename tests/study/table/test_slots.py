import os
import subprocess
import sys

import pytest

from distill_lib.errors import UsageError
from distill_lib.study import execute
from distill_lib.study.table import slots

DEVICES = "0,1,GPU-2f,3"
SAY = "echo $CUDA_VISIBLE_DEVICES; read _"  # holds its device until its stdin is closed


@pytest.fixture
def start(tmp_path):
    """Starts a command on so many GPUs of four that this test has to itself."""
    children = []

    def start(count, *command, **more):
        environment = {**execute.importing(), "CUDA_VISIBLE_DEVICES": DEVICES, "TMPDIR": str(tmp_path)}
        environment.pop("SLURM_JOB_ID", None)
        words = [sys.executable, "-m", "distill_lib.study.table.slots", str(count), *command]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        children.append(subprocess.Popen(words, env={**environment, **more}, text=True, **pipes))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_jobs_at_once_have_devices_of_their_own_and_give_them_back(start):
    jobs = [start(1, "sh", "-c", SAY) for _ in range(4)]
    seen = [job.stdout.readline().strip() for job in jobs]
    assert sorted(seen) == sorted(DEVICES.split(","))
    waiting = start(1, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1)
    jobs[2].kill()  # as by SIGKILL: nobody is left to tidy up
    assert waiting.communicate(timeout=20)[0].strip() == seen[2]


def test_several_are_taken_all_or_none(start):
    first = start(3, "sh", "-c", SAY)
    assert len(first.stdout.readline().split(",")) == 3
    second = start(2, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=1)
    first.kill()
    assert len(second.communicate(timeout=20)[0].split(",")) == 2


def test_without_gpus_and_under_slurm_nothing_is_done(start):
    for count, more in ((0, {}), (1, {"SLURM_JOB_ID": "7"})):
        assert start(count, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES", **more).communicate()[0].strip() == DEVICES


def test_the_command_s_code_is_its_own(start):
    assert start(1, "sh", "-c", "exit 7").wait() == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["5", "true"], "5 GPUs were asked for, but this host has 4; allowed: at most 4"),
        (["x", "true"], "GPUS 'x' is impossible; allowed: a whole number, at least 0"),
        (["1"], "no command was given; allowed: GPUS COMMAND ..."),
        (["0", "/no/such"], "'/no/such' cannot be run: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_sentence(start, words, said):
    job = start(*words)
    _, error = job.communicate()
    assert (job.returncode, error) == (2, f"{said}\n")


def test_devices_are_those_that_are_visible(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " 2, 5,")
    assert slots.devices() == ["2", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slots.devices() == []
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: H200 (UUID: a)'\necho 'GPU 1: H200 (UUID: b)'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert slots.devices() == ["0", "1"]
    with pytest.raises(UsageError, match="3 GPUs"):
        slots.take(3, slots.devices(), tmp_path)
