"""A Slurm made of shell scripts: a file is its queue, and nothing runs."""

import json
import os
from pathlib import Path

import pytest

from distill_lib import __main__ as main_module
from distill_lib.study import store
from distill_lib.study.table import records
from distill_lib.study.table.load import load_table

OVER = "COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY"
PROGRAMS = {
    # Takes a turn under a lock, as the controller does; `refuse` holds how many it still takes.
    "sbatch": """
        echo "$*" >>calls
        [ -e refuse ] && { left=$(cat refuse); [ "$left" = 0 ] && {
            echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2; exit 1; }
            echo $((left - 1)) >refuse; }
        reason=Priority
        for word; do case $word in
            --job-name=*) name=${word#*=} ;; --comment=*) comment=${word#*=} ;; --dependency=*) reason=Dependency ;;
        esac; done
        exec 9>turn; flock 9
        number=$(($(wc -l <queue) + 1))
        echo "$number|$name|PENDING|0:00||$reason|$comment" >>queue
        echo $number""",
    "squeue": f"""
        [ -e down ] && {{ echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }}
        case "$*" in *--states=all*) cat queue ;; *) grep -vE '\\|({OVER})\\|' queue ;; esac; exit 0""",
    "sinfo": """
        [ -e down ] && { echo "slurm_load_partitions: Unable to contact slurm controller" >&2; exit 1; }
        cat nodes""",
    "scancel": """
        shift
        for number; do sed -i "s/^\\($number|[^|]*\\)|[A-Z_]*|/\\1|CANCELLED|/" queue; done""",
}
NODES = "main|main*|7-00:00:00|64000|2|16|gpu:2\nmain|main*|7-00:00:00|8000|1|2|(null)\n"
NODES += "short|short|10:00|64000|1|2|gpu:a100:4(S:0-1)\n"


class FakeSlurm:
    """The scripts' folder, and their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, script in PROGRAMS.items():
            (folder / name).write_text(f'#!/bin/sh\ncd "{folder}"\n{script}\n')
            (folder / name).chmod(0o755)
        self.write("queue", "")
        self.write("calls", "")
        self.write("nodes", NODES)

    def write(self, name: str, text: str) -> None:
        """Set a file: `queue`, `nodes`, `refuse` (how many jobs are still taken), `down` (any text)."""
        (self.folder / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        """The words of each sbatch."""
        return (self.folder / "calls").read_text().splitlines()

    @property
    def queue(self) -> list[list[str]]:
        """The queue's entries."""
        return [line.split("|") for line in (self.folder / "queue").read_text().splitlines()]

    def set(self, name: str, state: str, reason: str = "None", node: str = "n1") -> None:
        """What has become of the jobs of a name."""
        entries = [
            [*entry[:2], state, "1:00", node, reason, entry[6]] if entry[1] == name else entry for entry in self.queue
        ]
        self.write("queue", "".join("|".join(entry) + "\n" for entry in entries))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm's programs on the PATH."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    return fake


@pytest.fixture
def no_slurm(tmp_path, monkeypatch):
    """A PATH without Slurm's programs, wherever the tests run."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The store."""
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def write_table(tmp_path, runs):
    """Gives a function that writes a table of jobs (name=needs, or a dict of settings); gives its path."""

    def write(**jobs):
        described = []
        for name, wants in jobs.items():
            wants = wants if isinstance(wants, dict) else {"needs": wants}
            described.append({"name": name, "command": ["true"], "minutes": 5, **wants})
        path = tmp_path / "toy.json"
        path.write_text(json.dumps({"name": "toy", "jobs": described}))
        return str(path)

    return write


@pytest.fixture
def table(write_table):
    """a <- b, c <- d."""
    return load_table(write_table(a=[], b=["a"], c=["a"], d=["b", "c"]))


@pytest.fixture
def finish(runs):
    """Gives a function that makes the store have the result of a table's jobs."""

    def finish(table, *names):
        for name in names:
            store.write_json(records.path(runs, table.key(table.job(name))), {})

    return finish


@pytest.fixture
def cluster(capsys):
    """Gives a function: (exit code, stdout, stderr) of `cluster` with these words."""

    def answer(*argv):
        try:
            code = main_module.main(["cluster", *argv])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return answer
