import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill_lib import __main__ as main_module
from distill_lib.errors import UsageError, choose
from distill_lib.study import command, runner
from distill_lib.study.runner import Outcome
from distill_lib.tools.report import command as report_command

ROOT = Path(main_module.__file__).parents[1]


def entry(stem, **rest):
    return SimpleNamespace(notebook=stem, parameters={"seeds": [0, 1]}, **rest)


PROFILES = {
    "quick": SimpleNamespace(name="quick", notebooks=[entry("01_a"), entry("02_b", needs=["01_a"], minutes=2)]),
    "gpu": SimpleNamespace(name="gpu", notebooks=[entry("01_a", gpus=1, minutes=90)]),
}


class FakeStudy:
    """A study of two notebooks; refuses the profile `gpu` as a machine without CUDA does."""

    def names(self):
        return list(PROFILES)

    def load(self, name):
        return choose("profile", name, PROFILES)

    def check(self, profile, device, data_dir):
        if profile.name == "gpu":
            raise UsageError("profile 'gpu' wants CUDA,\nwhich is not here")

    def fingerprint(self, profile, job, data_dir):
        return [profile.name, str(data_dir)]

    def about(self, profile, device, data_dir):
        return {"configuration": profile.name, "data": {}}

    def headline(self, profile, root):
        return f"figures: {root}/figures/{profile.name}"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The command line over a made-up repository with two notebooks and the fake study."""
    source = 'profile: str = "quick"\nseeds: list[int] = [0]\ndevice: str = "auto"'
    cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}, "outputs": []}
    (tmp_path / "notebooks").mkdir()
    for stem in ("01_a", "02_b"):
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        (tmp_path / "notebooks" / f"{stem}.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setattr(command, "study", FakeStudy)
    monkeypatch.setattr(command.main, "__defaults__", (tmp_path,))
    monkeypatch.setattr(command, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(report_command, "after_run", lambda args: None)
    monkeypatch.delenv("DISTILL_RUNS", raising=False)
    return tmp_path


@pytest.fixture
def ran(monkeypatch):
    """Calls of `runner.run`, which does nothing and calls every job what `ran.status` says."""
    calls = SimpleNamespace(jobs=[], place=None, status="done")

    def run(jobs, place, ended):
        calls.jobs, calls.place = jobs, place
        record = {"notebook": "01_a", "key": "k", "wall_s": 1.0, "peak_rss_mb": 2.0}
        outcomes = [Outcome(j, "k", calls.status, "a message", {**record, "name": j.name}) for j in jobs]
        for outcome in outcomes:
            ended(outcome)
        return outcomes

    monkeypatch.setattr(runner, "run", run)
    return calls


def answer(capsys, *argv):
    """(exit code, stdout, stderr) of a call."""
    try:
        code = main_module.main(list(argv))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_a_run_ends_with_the_headline_and_writes_the_manifest(repository, ran, capsys):
    code, out, err = answer(capsys, "run")
    assert (code, out, err) == (0, f"figures: {repository}/figures/quick\n", "")
    assert [job.name for job in ran.jobs] == ["01_a", "02_b"]
    assert ran.place.runs == repository / "runs"
    assert ran.place.env == {}
    assert ran.place.fingerprint(ran.jobs[0]) == ["quick", "None"]
    manifest = json.loads((repository / "results" / "quick" / "manifest.json").read_text())
    assert (manifest["configuration"], list(manifest["jobs"])) == ("quick", ["01_a", "02_b"])


def test_the_store_that_notebooks_use_is_the_run_s_too(repository, ran, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "elsewhere"))
    assert answer(capsys, "run")[0] == 0
    assert ran.place.runs == tmp_path / "elsewhere"


def test_a_run_that_did_nothing_writes_nothing(repository, ran, capsys):
    ran.status = "unchanged"
    code, out, _ = answer(capsys, "run")
    assert code == 0
    assert out.startswith("figures: ")
    assert not (repository / "results").exists()


@pytest.mark.parametrize(
    ("options", "status", "reports"),
    [
        ("", "done", [None]),
        ("--profile quick --only 01_a", "unchanged", ["quick"]),
        ("", "failed", [None]),
        ("--list", "done", []),
        ("--dry-run", "done", []),
        ("--profile nosuch", "done", []),
    ],
)
def test_a_run_is_followed_by_its_report(repository, ran, capsys, monkeypatch, options, status, reports):
    made = []
    monkeypatch.setattr(report_command, "after_run", lambda args: made.append(args.profile))
    ran.status = status
    answer(capsys, "run", *options.split())
    assert made == reports


def test_a_failure_is_exit_code_1_and_said_on_stderr(repository, ran, capsys):
    ran.status = "failed"
    code, out, err = answer(capsys, "run", "--only", "01_a")
    assert (code, out, err) == (1, "", "01_a: a message\n")


def test_options_reach_the_jobs(repository, ran, capsys):
    folder = repository / "data"
    folder.mkdir()
    options = [
        "--seeds",
        "0-1,7",
        "--only",
        "notebooks/02_b.ipynb",
        "--device",
        "cpu",
        "--workers",
        "3",
        "--data-dir",
        str(folder),
    ]
    assert answer(capsys, "run", *options)[0] == 0
    assert [job.name for job in ran.jobs] == ["01_a", "02_b"]  # what it needs comes along
    assert ran.jobs[1].parameters == {"profile": "quick", "seeds": [0, 1, 7], "device": "cpu"}
    assert ran.place.env == {"DISTILL_DATA": str(folder), "DISTILL_WORKERS": "3"}


def test_only_takes_commas_and_words(repository, ran, capsys):
    for words in (["01_a,02_b"], ["01_a", "02_b"]):
        answer(capsys, "run", "--only", *words)
        assert len(ran.jobs) == 2


def test_list_shows_the_jobs_of_all_profiles(repository, capsys):
    code, out, _ = answer(capsys, "run", "--list")
    assert code == 0
    assert out.splitlines() == [
        "quick:",
        "  01_a (seeds=[0, 1])",
        "  02_b (seeds=[0, 1]), about 2 min 00 s",
        "gpu:",
        "  01_a (seeds=[0, 1]), about 1 h 30 min, GPU",
    ]
    assert answer(capsys, "run", "--list", "--profile", "gpu")[1].startswith("gpu:\n")


def test_a_dry_run_says_what_would_run(repository, capsys):
    code, out, _ = answer(capsys, "run", "--dry-run", "--only", "01_a")
    assert (code, out) == (0, "would run: 01_a (seeds=[0, 1])\n")
    assert not (repository / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--profile nosuch", "unknown profile 'nosuch'; allowed: quick, gpu"),
        ("--profile gpu", "profile 'gpu' wants CUDA, which is not here"),
        ("--only 99_nosuch", "unknown notebook '99_nosuch'; allowed: 01_a, 02_b"),
        ("--only 01_a,", "unknown notebook ''"),
        ("--seeds x", "--seeds 'x' is not a list of seeds; allowed: "),
        ("--seeds -1", "--seeds '-1' is not"),
        ("--seeds", "expected one argument"),
        ("--nosuch", "unrecognized arguments: --nosuch"),
        ("--prof quick", "unrecognized arguments: --prof quick"),
        ("--data-dir /nonexistent", "--data-dir '/nonexistent' is not a folder"),
        ("--workers 0", "the number of workers is '0'; allowed: a whole number from 1 up"),
        ("--device abacus", "unknown device 'abacus'; allowed: auto, cpu, cuda"),
        ("--device cuda:99", "'cuda:99'"),
    ],
)
def test_a_bad_option_is_one_sentence_and_exit_code_2(repository, ran, capsys, options, message):
    code, out, err = answer(capsys, "run", *options.split())
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert ran.place is None


@pytest.mark.parametrize("argv", [[], ["nosuch"], ["--nosuch"]])
def test_a_bad_command_is_one_sentence_and_exit_code_2(capsys, argv):
    code, _, err = answer(capsys, *argv)
    assert code == 2
    assert err.count("\n") == 1


def test_an_interrupted_run_is_exit_code_130(repository, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    assert answer(capsys, "run") == (130, "", "interrupted\n")


def test_what_ended_before_an_interruption_is_in_the_manifest(repository, capsys, monkeypatch):
    def run(jobs, place, ended):
        record = {"name": jobs[0].name, "notebook": "01_a", "key": "k", "wall_s": 1.0, "peak_rss_mb": 2.0}
        ended(Outcome(jobs[0], "k", "done", "a message", record))
        raise UsageError("the second is refused")

    monkeypatch.setattr(runner, "run", run)
    assert answer(capsys, "run")[0] == 2
    manifest = json.loads((repository / "results" / "quick" / "manifest.json").read_text())
    assert list(manifest["jobs"]) == ["01_a"]


def test_help_names_every_option(capsys):
    code, out, _ = answer(capsys, "run", "--help")
    assert code == 0
    for option in ("--profile", "--seeds", "--only", "--device", "--workers", "--data-dir", "--list", "--dry-run"):
        assert option in out


def test_the_command_line_is_there_at_once():
    heavy = "torch", "pandas", "papermill", "nbformat", "numpy"
    code = f"import sys; from distill_lib.study import command; print([m for m in {heavy} if m in sys.modules])"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - begun < 10


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "distill_lib", "run", "--seeds", "x"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--seeds 'x' is not a list of seeds")
