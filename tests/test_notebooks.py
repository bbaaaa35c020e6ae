"""Every notebook at a tiny size, through the runner, and what a second run, a kill and a changed setting do."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from distill_lib.study import main_job, notebooks, runner, tables
from distill_lib.study.jobs import Job, expand
from distill_lib.study.stale import checker
from distill_lib.study.table.load import load_table

REPOSITORY = Path(__file__).parents[1]
TINY = REPOSITORY / "tests" / "profiles" / "tiny.toml"
CELL = ("downstream", "stage", "defence", "teacher", "student", "loss")
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
JOBS = [path for path in NOTEBOOKS if path.stem in notebooks.NOTEBOOKS]  # the others are opened by people alone


def jobs(only=None):
    """The tiny profile's jobs; a profile of one's own is named by its path."""
    return expand(main_job.load(str(TINY)), only=only)


def folder(root):
    """A repository of its own with the study's notebooks."""
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    return runner.Place(root, root / "runs")


def hashes(root):
    """What is in results/ and figures/, byte for byte."""
    files = sorted(p for name in ("results", "figures") for p in (root / name).rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All notebooks, run once."""
    place = folder(tmp_path_factory.mktemp("study"))
    outcomes = runner.run(jobs(), place)
    assert [outcome.status for outcome in outcomes] == ["done"] * len(JOBS), [outcome.message for outcome in outcomes]
    return place


@pytest.mark.timeout(500)
def test_all_notebooks_make_their_figures_and_tables(place):
    made = [path for entry in main_job.load(str(TINY)).notebooks for path in entry.makes]
    assert {"figures/tiny/trigger_ctrl.png", "figures/tiny/harm.svg", "figures/tiny/robustness.json"} <= set(made)
    assert all((place.root / path).stat().st_size > 100 for path in made)
    rows = tables.read(place.root / "results" / "tiny" / "distillation.csv")
    several = {(r["attack"], *(r[c] for c in CELL)) for r in rows}
    assert len(several) == len(rows)
    cells = {tuple(cell) for attack, *cell in several if attack == "badencoder"}
    for name in ("patterns", "shapes"):
        assert (name, "clean", "none", "", "", "") in cells
        assert (name, "attacked", "none", "", "", "") in cells
        for defence in ("clean_share", "finetune"):
            assert (name, "defended", defence, "", "", "") in cells
        assert (name, "defended", "distillation", "finetuned", "warmup", "at") in cells
    for changed in (
        *((teacher, "warmup", "at") for teacher in ("poisoned", "pruned", "scratch", "clean", "random")),
        *(("finetuned", student, "at") for student in ("random", "copy")),
        *(("finetuned", "warmup", loss) for loss in ("kd", "cosine", "mimic")),
    ):
        assert ("patterns", "defended", "distillation", *changed) in cells
    for defence in ("bn_reset", "clp", "fine_pruning", "nad"):
        assert ("patterns", "defended", defence, "", "", "") in cells
    headline = {("clean_share", "", "", ""), ("finetune", "", "", ""), ("distillation", "finetuned", "warmup", "at")}
    assert {("ctrl", "shapes", "defended", *cell) for cell in headline} <= several
    rates = ("acc", "asr", "asr_all", "triggered_acc", "placebo_asr", "target_rate")
    assert all(0 <= float(row[rate]) <= 100 for row in rows for rate in rates)


def test_other_probes_random_weights_and_released_losses_are_sweeps(place):
    rows = tables.read(place.root / "results" / "tiny" / "sweeps.csv")
    settings = {(row["setting"], row["value"]) for row in rows}
    assert {("probe", "linear"), ("probe", "knn"), ("encoder", "random"), ("loss_form", "released")} <= settings
    assert ("encoder;probe", "random;knn") in settings
    assert {("injection.trigger_size", "6"), ("defender.share", "0.02"), ("distillation.steps", "2")} <= settings
    assert {("distillation.nt_xent_weight;distillation.steps", "0.0;8"), ("distillation.weights.at", "0.0")} <= settings
    assert ("injection.trigger_size", "10") not in settings  # the profile's own
    assert {row["study"] for row in rows} == {"distillation"}


def test_a_second_run_changes_no_file(place):
    before = hashes(place.root)
    assert [outcome.status for outcome in runner.run(jobs(), place)] == ["unchanged"] * len(JOBS)
    assert hashes(place.root) == before


def test_rows_are_fresh_under_their_profile_and_stale_under_another(place):
    profile = main_job.load(str(TINY)).profile
    rows = [r for name in ("distillation", "sweeps") for r in tables.read(place.root / f"results/tiny/{name}.csv")]
    known = {}
    assert not any(map(checker(profile, known), rows))
    longer = replace(profile, pretraining=replace(profile.pretraining, epochs=2))
    assert all(map(checker(longer, known), rows))


def test_the_command_sees_the_study_as_the_runner_does(place, monkeypatch):
    monkeypatch.setenv("DISTILL_RUNS", str(place.runs))
    job = main_job.load(str(TINY))
    main_job.check(job, "cpu", None)
    first = main_job.fingerprint(job, jobs()[0], None)
    assert json.loads(json.dumps(first))["images"]["patterns/test"]["count"] == 1000
    about = main_job.about(job, None, None)
    assert about["configuration"]["name"] == "tiny"
    assert about["data"]["builtin/train"]["source"] == "builtin"
    text = main_job.headline(job, place.root)
    assert "attacked" in text
    assert "distilled (finetuned, warmup, at)" in text


def test_every_artefact_was_made_once(place):
    lines = (place.runs / "makes.log").read_text().splitlines()
    made = [tuple(line.split()[1:3]) for line in lines]
    assert len(made) == len(set(made)) > 30


def test_the_jobs_of_the_table_make_what_the_notebooks_make(place):
    """So that after these jobs the notebooks only read: to the last artefact, but for what the explorer draws from."""
    table = load_table(str(TINY), root=place.root, runs=place.runs)
    fills = [job for job in table.jobs if not job.notebook]
    assert len(fills) > 40
    assert [job.name for job in fills if not table.finished(job)] == []  # they make nothing that no notebook asks for
    named = {(each.kind, each.key) for job in fills for each in table.work.named(job.name)}
    made = {tuple(line.split()[1:3]) for line in (place.runs / "makes.log").read_text().splitlines()}
    assert {kind for kind, _ in made - named} == {"explored"}
    assert named <= made


def test_a_job_of_the_table_makes_the_same_bytes(place, tmp_path):
    table = load_table(str(TINY), root=place.root, runs=tmp_path)
    for name in ("datafree-teacher-sig-s1", "datafree-clean_kd-sig-s1", "undistillable-teacher-normal-s1"):
        assert table.run(table.job(name)) == 0
    files = [path for path in tmp_path.glob("*/*/*") if path.name in ("weights.safetensors", "metrics.json")]
    assert len(files) > 6
    assert all(path.read_bytes() == (place.runs / path.relative_to(tmp_path)).read_bytes() for path in files)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert cells[0]["cell_type"] == "markdown"
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert path not in JOBS or "".join(code[-1]["source"]) == "study.finish()"
    for cell in code:
        lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
        assert len(lines) <= 20
        assert not any(line.startswith(("def ", "class ")) for line in lines)
    exercises = [cell for cell in cells if "exercise" in cell["metadata"].get("tags", [])]
    said = [cell for cell in cells if "".join(cell["source"]).startswith("**Exercise**")]
    assert exercises == said
    assert len(said) == ("01" <= path.stem[:2] <= "08")


def test_the_solutions_are_those_of_the_exercises():
    solved = re.findall(r"^## (\d\d)", (REPOSITORY / "docs" / "solutions.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert solved == [path.stem[:2] for path in NOTEBOOKS if "**Exercise**" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_the_start_shows_what_is_committed_and_makes_nothing(tmp_path, profile):
    place = folder(tmp_path)
    for kind in ("figures", "results"):
        shutil.copytree(REPOSITORY / kind / profile, tmp_path / kind / profile)
    before = hashes(tmp_path)
    (outcome,) = runner.run([Job("00_start", "00_start", {"profile": profile})], place)
    assert outcome.status == "done", outcome.message
    assert hashes(tmp_path) == before
    assert not (place.runs / "makes.log").exists()
    executed = (place.runs / "notebooks" / outcome.key / "00_start.ipynb").read_text(encoding="utf-8")
    assert executed.count('"image/png"') == 1
    assert "undecided" in executed


KILLED = """
import sys
from distill_lib.study import runner
sys.path.insert(0, {tests!r})
from dataclasses import replace
from test_notebooks import jobs
from pathlib import Path
root = Path({root!r})
(job,) = jobs(["01_attack"])
outcomes = runner.run([replace(job, makes=())], runner.Place(root, root / "runs", env={{"DISTILL_CHECKPOINT_S": "0"}}))
sys.exit(outcomes[0].status not in ("done", "unchanged"))
"""


def start(root):
    """A run of the first notebook in a process of its own, with a checkpoint after each step."""
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(root))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)


def only_pretraining(path):
    """Cut a notebook down to its parameters, the study's opening, and the encoder that takes longest."""
    notebook = json.loads(path.read_text())
    kept = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][:2]
    last = {**kept[1], "id": "last", "source": "study.stages.pretrained(0)\nstudy.finish()"}
    path.write_text(json.dumps({**notebook, "cells": [*kept, last]}))


@pytest.mark.timeout(500)
def test_killed_in_pretraining_it_resumes_and_ends_bit_equal(place, tmp_path):
    folder(tmp_path)
    only_pretraining(tmp_path / "notebooks" / "01_attack.ipynb")
    process = start(tmp_path)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "runs" / "partial").glob("pretrained-*/training.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "runs").glob("pretrained/*/metrics.json")), "killed too late to show anything"
    assert start(tmp_path).wait(timeout=200) == 0
    resumed = {p.parent.name: p.read_bytes() for p in (tmp_path / "runs").glob("*/*/weights.safetensors")}
    whole = {p.parent.name: p.read_bytes() for p in (place.runs).glob("*/*/weights.safetensors")}
    assert len(resumed) == 1
    assert all(whole[key] == weights for key, weights in resumed.items())
    logs = {p.parent.name: p.read_text() for p in (tmp_path / "runs").glob("pretrained/*/log.csv")}
    assert all((place.runs / "pretrained" / key / "log.csv").read_text() == text for key, text in logs.items())
