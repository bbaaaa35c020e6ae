import json
import os
import subprocess

import pytest

from distill_lib.study import manifest

ABOUT = {"configuration": {"lr": 0.1}, "data": {"shapes": {"source": "builtin", "digest": "abc"}}}


def record(name="01_attack", key="k1", wall=10.0, seeds=(0,)):
    parameters = {"profile": "quick", "seeds": list(seeds)}
    cost = {"key": key, "wall_s": wall, "peak_rss_mb": 100.0}
    return {"name": name, "notebook": name, **cost, "outputs": {}, "parameters": parameters}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "quick" / "manifest.json"


def test_a_manifest_says_how_results_were_made(path):
    assert manifest.write_manifest(path, ABOUT, [record()])
    made = json.loads(path.read_text())
    assert made["configuration"] == ABOUT["configuration"]
    assert made["data"] == ABOUT["data"]
    assert made["jobs"] == {"01_attack": {"key": "k1", "wall_s": 10.0, "peak_rss_mb": 100.0}}
    assert made["versions"]["torch"][0].isdigit()
    assert made["hardware"]["cpu"]
    assert made["hardware"]["cores"] >= 1
    assert made["git"] == {"revision": None, "changed": False}


def test_jobs_that_ran_are_added_and_others_stay(path):
    manifest.write_manifest(path, ABOUT, [record(), record("02_teacher")])
    manifest.write_manifest(path, ABOUT, [record(key="k2", wall=20.0)])
    jobs = json.loads(path.read_text())["jobs"]
    assert (jobs["01_attack"]["wall_s"], jobs["02_teacher"]["key"]) == (20.0, "k1")


def test_each_seed_says_what_ran_it_last(path, monkeypatch):
    manifest.write_manifest(path, {**ABOUT, "precision": "bf16"}, [record(seeds=[0, 1, 10])])
    monkeypatch.setattr(manifest, "hardware", lambda: {"cpu": "another", "cores": 2, "gpus": [], "system": "Linux"})
    manifest.write_manifest(path, {**ABOUT, "precision": "float32"}, [record(key="k2", seeds=[1, 2])])
    by_seed = json.loads(path.read_text())["by_seed"]["distillation"]
    assert {seed: made["precision"] for seed, made in by_seed.items()} == {
        "0": "bf16", "1": "float32", "2": "float32", "10": "bf16",
    }  # fmt: skip
    assert by_seed["2"]["cpu"] == "another" != by_seed["0"]["cpu"]
    assert by_seed["0"]["torch"][0].isdigit()


def test_each_study_says_it_of_its_own_seeds(path):
    manifest.write_manifest(path, {**ABOUT, "precision": "bf16"}, [record()])
    manifest.write_manifest(path, {**ABOUT, "precision": "float32"}, [record("07_data_free")], {"undistillable": [3]})
    by_seed = json.loads(path.read_text())["by_seed"]
    precision = {study: {seed: made["precision"] for seed, made in seeds.items()} for study, seeds in by_seed.items()}
    assert precision == {"distillation": {"0": "bf16"}, "datafree": {"0": "float32"}, "undistillable": {"3": "float32"}}


def test_a_run_that_computed_nothing_leaves_it(path):
    manifest.write_manifest(path, ABOUT, [record()])
    os.utime(path, (1, 1))
    assert not manifest.write_manifest(path, {"configuration": "other"}, [])
    assert not manifest.write_manifest(path, ABOUT, [record(wall=0.5)])  # drawn again, all artefacts found
    assert path.stat().st_mtime == 1


def test_the_revision_is_git_s(path, tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text("{}")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(git + command, check=True)
    manifest.write_manifest(path, ABOUT, [record()])
    made = json.loads(path.read_text())["git"]
    assert len(made["revision"]) == 40
    assert made["changed"] is False
    (tmp_path / "notebooks" / "a.ipynb").write_text("{ }")
    manifest.write_manifest(path, ABOUT, [record(key="k2")])
    assert json.loads(path.read_text())["git"]["changed"] is True
