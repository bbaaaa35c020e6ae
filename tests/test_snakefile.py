"""The Snakefile under a real Snakemake: the same store, each thing once, whatever kills it."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_lib.study.table.load import load_table

REPOSITORY = Path(__file__).parents[1]
SNAKEMAKE = os.environ.get("SNAKEMAKE") or shutil.which("snakemake")
AGAIN = ("--rerun-triggers", "mtime", "--rerun-incomplete", "--keep-going")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not SNAKEMAKE, reason="no Snakemake: pip install snakemake, or name it in SNAKEMAKE"),
]


class Toy:
    """A table of shell one-liners with a store of its own."""

    def __init__(self, folder, repository=REPOSITORY):
        self.folder, self.runs, self.repository = folder, folder / "runs", repository
        self.source = str(folder / "toy.json")

    def write(self, *jobs):
        """(name, shell words, needs, GPUs): each makes the file `name`, last of all."""
        described = [
            {
                "name": name, "command": ["sh", "-c", f"cd {self.folder} && {run} && touch {name}"], "needs": needs,
                "makes": [str(self.folder / name)], "gpus": gpus,
            }
            for name, run, needs, gpus in jobs
        ]  # fmt: skip
        Path(self.source).write_text(json.dumps({"name": "toy", "jobs": described}))
        return self

    @property
    def table(self):
        return load_table(self.source, runs=self.runs)

    def start(self, *words):
        """Snakemake on the table, in a process group of its own."""
        given = ["-s", str(self.repository / "Snakefile"), "--cores", "4", "--resources", "gpu=4", *AGAIN, *words]
        given += ["--config", f"profile={self.source}", f"python={sys.executable}"]
        environment = {**os.environ, "DISTILL_RUNS": str(self.runs), "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
        environment.pop("SLURM_JOB_ID", None)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(
            [SNAKEMAKE, *given], cwd=self.folder, env={**environment, "TMPDIR": str(self.folder)}, **pipes
        )

    def run(self, *words):
        """(exit code, what it says)."""
        process = self.start(*words)
        said, _ = process.communicate(timeout=380)
        return process.returncode, said

    def made(self):
        """Keys of what was made, in order."""
        log = self.runs / "makes.log"
        return [line.split()[2] for line in log.read_text().splitlines()] if log.exists() else []

    def once(self):
        """Whether each job made what it makes, and exactly once."""
        return sorted(self.made()) == sorted(map(self.table.key, self.table.jobs))


@pytest.fixture
def toy(tmp_path):
    return Toy(tmp_path)


def test_a_table_runs_to_its_end_and_once_with_a_device_for_each(toy):
    say = 'echo "$CUDA_VISIBLE_DEVICES" > device-{0}; sleep 1'
    jobs = [(f"g{i}", say.format(i), ["first"], 1) for i in range(4)]
    toy.write(("first", "true", [], 0), *jobs, ("last", "cat device-* > all", [each[0] for each in jobs], 0))
    code, said = toy.run()
    assert code == 0, said
    assert sorted((toy.folder / "all").read_text().split()) == ["0", "1", "2", "3"]
    assert toy.once()
    code, said = toy.run()
    assert "Nothing to be done" in said
    assert toy.once()


def test_what_was_deleted_is_made_again_and_nothing_else(toy):
    toy.write(("first", "true", [], 0), ("second", "true", ["first"], 0), ("third", "true", ["second"], 0))
    assert toy.run()[0] == 0
    (toy.folder / "second").unlink()  # its stamp is still there
    code, said = toy.run()
    assert code == 0, said
    keys = {job.name: toy.table.key(job) for job in toy.table.jobs}
    assert toy.made()[3:] == [keys["second"]]
    assert all(map(toy.table.finished, toy.table.jobs))


def test_killed_and_unlocked_the_store_is_intact_and_nothing_is_made_twice(toy):
    slow = [(f"s{i}", "sleep 2", [f"s{i - 1}"] if i else [], 0) for i in range(3)]
    toy.write(*slow, *[(f"p{i}", "sleep 3", [], 0) for i in range(3)])
    first = toy.start()
    until = time.monotonic() + 60
    while not toy.made():
        assert time.monotonic() < until
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert "LockException" in toy.run()[1]
    assert toy.run("--unlock")[0] == 0
    code, said = toy.run()
    assert code == 0, said
    assert toy.once()
    assert all(map(toy.table.finished, toy.table.jobs))


def test_a_failure_stops_what_needs_it_alone(toy):
    toy.write(("bad", "echo broken >&2; exit 3", [], 0), ("after", "true", ["bad"], 0), ("beside", "true", [], 0))
    code, said = toy.run()
    assert code == 1
    assert "bad: FAILED: the command ended with code 3: broken" in said
    finished = {job.name: toy.table.finished(job) for job in toy.table.jobs}
    assert finished == {"bad": False, "after": False, "beside": True}
    assert toy.table.failure(toy.table.job("bad"))["message"] == "the command ended with code 3: broken"


def test_a_wrong_source_is_one_sentence(toy):
    toy.source = "nope"
    code, said = toy.run()
    assert code == 2
    assert re.search(r"^unknown profile 'nope'; allowed: .*$", said, re.MULTILINE)
    assert not toy.runs.exists()


def test_a_dry_run_of_a_thousand_jobs_takes_seconds(toy):
    toy.write(*[(f"j{i}", "true", [f"j{i // 2}"] if i > 1 else [], 0) for i in range(1000)])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, said = toy.run("-n", "--quiet")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0, said
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


def test_a_tiny_profile_s_tables_are_those_of_a_plain_run(tmp_path):
    """One attack on one set: its encoders and their rates, and the notebook that files them."""
    tables = {}
    for how in ("plain", "snakemake"):
        root = tmp_path / how
        root.mkdir()
        for name in ("distill_lib", "notebooks"):
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "Snakefile", root)
        text = (REPOSITORY / "tests" / "profiles" / "tiny.toml").read_text().split("[[sweeps]]")[0]
        (root / "tiny.toml").write_text(text.replace(', "shapes"]', "]").replace('= "builtin"', '= "patterns"'))
        study = Toy(root, root)
        study.source = str(root / "tiny.toml")
        environment = {**os.environ, "DISTILL_RUNS": str(study.runs), "PYTHONPATH": str(root)}
        if how == "plain":
            words = [sys.executable, "-m", "distill_lib", "run", "--profile", study.source, "--only", "01_attack"]
            subprocess.run(words, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
        else:
            table = load_table(study.source, root=root, runs=study.runs)
            stamp = study.runs / "stamps" / table.key(table.job("01_attack"))
            code, said = study.run(str(stamp))
            assert code == 0, said
            assert len(study.made()) == len(set(study.made())) > 5
        tables[how] = {path.name: path.read_bytes() for path in (root / "results" / "tiny").glob("*.csv")}
    assert tables["plain"] == tables["snakemake"]
    assert b"attacked" in tables["plain"]["distillation.csv"]
