"""A real Slurm for tests, brought up once, and tables of shell one-liners that fill a store through it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from distill_lib.study.table.load import load_table

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")


def output(*words, **settings):
    """What a command prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True, **settings).stdout


def wait(true, seconds=60):
    """Wait until something is true, and give it."""
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"still not so after {seconds} s:\n{output('squeue', '--states=all')}"
        time.sleep(0.2)
    return found


class Slurm:
    """Two nodes with two GPUs each; its settings are in this process's environment."""

    def __init__(self, folder):
        self.folder = folder
        began = time.monotonic()
        said = output(str(HERE / "up.sh"), str(folder))
        self.seconds = time.monotonic() - began
        self.settings = said.strip().split("=", 1)[1]

    def jobs(self, names=None):
        """[number, name, state, node] of each job that Slurm knows, of those names."""
        lines = output("squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%N").splitlines()
        found = [line.split("|") for line in lines]
        return [job for job in found if names is None or job[1] in names]

    def lose(self, node):
        """End a node as a power cut would: its daemon, and what its jobs run, before anyone can tell of it."""
        log, found = str(self.folder / "log" / node), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                opened = {os.readlink(each) for each in (process / "fd").iterdir()}
                variables = (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            there = f"SLURMD_NODENAME={node}".encode() in variables
            if log in opened or (there and f"SLURM_CONF={self.settings}".encode() in variables):
                found.append((log not in opened, int(process.name)))  # the daemons first
        for _, number in sorted(found):
            os.kill(number, signal.SIGSTOP)
        for _, number in found:
            os.kill(number, signal.SIGKILL)

    def start(self, node):
        """Bring a lost node back."""
        subprocess.run(["slurmd", "-f", self.settings, "-N", node], check=True)
        wait(lambda: output("sinfo", "-h", "-N", "-n", node, "-o", "%T").split()[0] in ("idle", "mixed"), 30)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The Slurm; tests are skipped where it cannot be."""
    missing = next((program for program in NEEDED if shutil.which(program) is None), None)
    if missing:
        pytest.skip(f"no Slurm: {missing} is not on the PATH (tests/slurm/up.sh names the packages)")
    if os.getuid():
        pytest.skip("no Slurm: only root can start its daemons")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        slurm = Slurm(folder)
        os.environ["SLURM_CONF"] = slurm.settings
        os.environ["OMP_NUM_THREADS"] = "1"
        yield slurm
    finally:
        os.environ.pop("SLURM_CONF", None)
        subprocess.run([str(HERE / "down.sh"), str(folder)], check=True)


class Study:
    """A table with a store and a folder of its own."""

    wait, output = staticmethod(wait), staticmethod(output)

    def __init__(self, slurm, folder):
        self.slurm, self.folder, self.runs = slurm, folder, folder / "runs"
        self.source, self.repository = str(folder / "toy.json"), REPOSITORY

    def write(self, **jobs):
        """A table of jobs: name={"run": shell words, "needs": [...], ...}; each makes `folder/name`, last of all."""
        described = [
            {
                "name": name, "command": ["sh", "-c", f"cd {self.folder}; {job.pop('run', ':')} && touch {name}"],
                "makes": [str(self.folder / name)], "minutes": 2, "memory_mb": 50, **job,
            }
            for name, job in jobs.items()
        ]  # fmt: skip
        Path(self.source).write_text(json.dumps({"name": "toy", "jobs": described}))
        return self

    @property
    def table(self):
        """The table."""
        return load_table(self.source, runs=self.runs)

    @property
    def names(self):
        """The jobs' names in Slurm, by theirs."""
        return {job.name: f"study:{self.table.key(job)}" for job in self.table.jobs}

    def start(self, *words):
        """`cluster` with these words, in the background."""
        environment = {**os.environ, "DISTILL_RUNS": str(self.runs)}
        words = [sys.executable, "-m", "distill_lib", "cluster", words[0], self.source, *words[1:]]
        return subprocess.Popen(
            words, cwd=self.repository, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *words):
        """(exit code, stdout, stderr) of `cluster` with these words."""
        process = self.start(*words)
        out, error = process.communicate(timeout=120)
        return process.returncode, out, error

    def submit(self, *words):
        """Submit; gives how many jobs were."""
        code, out, error = self.run("submit", *words)
        assert code == 0, error
        return int(out[out.index("submitted ") :].split()[1])

    def states(self):
        """Job -> the state of its last attempt in Slurm, and its node."""
        last = {name: (state, node) for _, name, state, node in sorted(self.slurm.jobs(), key=lambda job: int(job[0]))}
        return {job: last.get(name) for job, name in self.names.items()}

    def number(self, job):
        """The number of a job's last attempt."""
        return [number for number, name, *_ in self.slurm.jobs([self.names[job]])][-1]

    def until(self, job, state, seconds=60):
        """Wait for a job to be in a state."""
        wait(lambda: (self.states()[job] or [""])[0] == state, seconds)

    def ended(self, seconds=60):
        """Wait until no job of the store waits or runs."""
        wait(lambda: f"store:{self.runs}\n" not in output("squeue", "--noheader", "--format=%k"), seconds)

    def made(self):
        """How often each job made what it makes, by the store's own log."""
        counts = Counter(line.split()[2] for line in (self.runs / "makes.log").read_text().splitlines())
        return {job.name: counts[self.table.key(job)] for job in self.table.jobs}

    def once(self):
        """Whether all is made, and exactly once."""
        return set(self.made().values()) == {1} and all(self.table.finished(job) for job in self.table.jobs)


@pytest.fixture
def study(slurm, tmp_path):
    """An empty one."""
    return Study(slurm, tmp_path)


NOTEBOOK = "01_attack"
# `cluster` on that notebook and what it needs: all of a profile would take minutes.
PART = f"""
import sys
from dataclasses import replace
from distill_lib import __main__
from distill_lib.tools.cluster import command
whole = command.load_table
def part(*words):
    table, wanted = whole(*words), ["{NOTEBOOK}"]
    for name in wanted:
        wanted += table.job(name).needs
    return replace(table, jobs=tuple(job for job in table.jobs if job.name in wanted))
command.load_table = part
sys.exit(__main__.main(["cluster", *sys.argv[1:]]))
"""


class Copy(Study):
    """A copy of the repository, and a part of the tiny profile with one attack on one set."""

    def __init__(self, slurm, folder):
        super().__init__(slurm, folder)
        self.repository, self.source = folder, str(folder / "tiny.toml")
        for name in ("distill_lib", "notebooks"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        text = (REPOSITORY / "tests" / "profiles" / "tiny.toml").read_text().split("[[sweeps]]")[0]
        for line in ('ctrl = { downstream = ["shapes"] }', ', "shapes"'):
            assert line in text  # as the profile has it
            text = text.replace(line, "")
        Path(self.source).write_text(text)
        self.notebook = folder / "notebooks" / f"{NOTEBOOK}.ipynb"

    def start(self, *words):
        """`cluster` with these words, in the background."""
        words = [sys.executable, "-c", PART, words[0], self.source, *words[1:]]
        environment = {**os.environ, "DISTILL_RUNS": str(self.runs), "DISTILL_WORKERS": "1"}
        return subprocess.Popen(
            words, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def plain(self):
        """The same without Slurm."""
        environment = {**os.environ, "DISTILL_RUNS": str(self.runs), "DISTILL_WORKERS": "1"}
        words = [sys.executable, "-m", "distill_lib", "run", "--profile", self.source, "--only", NOTEBOOK]
        subprocess.run(words, cwd=self.folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    def tables(self):
        """The result tables, byte for byte."""
        return {path.name: path.read_bytes() for path in (self.folder / "results" / "tiny").glob("*.csv")}


@pytest.fixture(scope="session")
def attacked(slurm, tmp_path_factory):
    """The tiny profile on its way, with a notebook that will fail; asked for first, as `limited` is."""
    study = Copy(slurm, tmp_path_factory.mktemp("attacked"))
    book = json.loads(study.notebook.read_text())
    book["cells"][-1]["source"] = ["print('far'); raise RuntimeError('broken')"]
    study.whole = study.notebook.read_text()
    study.notebook.write_text(json.dumps(book))
    study.submit("--extra=--nodelist=n2")
    return study


@pytest.fixture
def copy(slurm, tmp_path):
    """Another copy, where nothing has run."""
    return Copy(slurm, tmp_path)


@pytest.fixture(scope="session")
def limited(slurm, tmp_path_factory):
    """A job that takes longer than its minute, one that needs it, and one that does not; asked for first, seen last."""
    study = Study(slurm, tmp_path_factory.mktemp("limited"))
    study.write(long={"run": "echo working; exec sleep 600", "minutes": 1}, after={"needs": ["long"]}, beside={})
    study.submit("--extra=--nodelist=n2")  # jobs start on the first node, which a test loses
    return study
