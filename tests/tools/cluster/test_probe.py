import json

import pytest

from distill_lib.study import store
from distill_lib.tools.cluster import probe as subject


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job on n1 and n2, where a step on n2 runs here."""
    for name, value in {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_JOB_NODELIST": "n[1-2]"}.items():
        monkeypatch.setenv(name, value)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text("#!/bin/sh\necho n1\necho n2\n")
    (programs / "srun").write_text('#!/bin/sh\nshift 3\nSLURMD_NODENAME=n2 exec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(subject, "_torch", lambda: "2.0 sees no GPU")
    return programs


def probed(runs):
    """What it finds."""
    assert subject.main([str(runs)]) == 0
    return json.loads((runs / "cluster" / "doctor-7.json").read_text())


def test_two_nodes_share_store_and_lock(job, tmp_path):
    found = probed(tmp_path / "runs")
    assert found["first"] == {"node": "n1", "device": "", "writes": "", "torch": "2.0 sees no GPU"}
    assert found["second"] == {"node": "n2", "device": "", "writes": "", "sees": True, "locked": True}


def test_one_node(job, tmp_path):
    (job / "scontrol").write_text("#!/bin/sh\necho n1\n")
    assert probed(tmp_path / "runs")["second"] is None


def test_a_second_node_that_fails(job, tmp_path):
    (job / "srun").write_text("#!/bin/sh\necho 'srun: error: no such node' >&2\nexit 1\n")
    assert probed(tmp_path / "runs")["second"] == {"node": "n2", "error": "srun: error: no such node"}


def test_a_lock_that_excludes_nobody_is_told(tmp_path):
    with store.exclusive(tmp_path, "doctor-1") as folder:
        (folder / "hello").write_text("")
        assert subject._second(tmp_path, folder)["locked"] is True
    assert subject._second(tmp_path, folder) | {"node": ""} == {
        "node": "", "device": "", "writes": "", "sees": False, "locked": False
    }  # fmt: skip
