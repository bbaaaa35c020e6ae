"""The `[datafree]` table: filled strictly, refused in one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from distill_lib.attacks.label_triggers import RECIPES
from distill_lib.datafree.clean_kd import CleanKDConfig
from distill_lib.datafree.cmi import CMIConfig
from distill_lib.datafree.ood import ReleasedOODConfig
from distill_lib.datafree.retrospection import RetrospectionConfig
from distill_lib.datafree.vaccine import VaccineConfig
from distill_lib.datafree.zskt import ZSKTConfig
from distill_lib.errors import UsageError
from distill_lib.study import main_job
from distill_lib.study.config.load import load_profile
from distill_lib.study.jobs import expand
from distill_lib.training.supervised import sgd_schedule
from distill_lib.vision.crop_flip import CropFlip

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")


def settings(**overrides):
    return load_profile(TINY, {f"datafree.{key}": value for key, value in overrides.items()}).datafree


def test_methods_are_filled_as_their_own_classes_say():
    found = settings()
    assert (found.ood.schedule.steps, found.ood.fixed, found.ood.patches.picture.size) == (4, True, 96)
    assert found.zskt.generator.channels == (8, 8)
    assert found.retrospection.few == 4
    assert found.ood.defence.sv is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("triggers", ["square"], "unknown name in datafree.triggers 'square'; allowed: badnet_grid"),
        ("triggers", [], "datafree.triggers is empty"),
        ("defences", ["magic"], "unknown name in datafree.defences 'magic'; allowed: none, sv, sr, abd"),
        ("methods", ["kd"], "unknown name in datafree.methods 'kd'; allowed: clean_kd, zskt, cmi, ood"),
        ("teacher", "resnet", "unknown datafree.teacher 'resnet'; allowed: wrn16_1"),
        ("clean", 1.5, "datafree.clean 1.5 and datafree.rate 0.1 are impossible"),
        ("target", -1, "datafree.target -1"),
        ("ood.fixed", 3, "setting 'datafree.ood.fixed' is 3 (int); allowed: bool"),
        ("ood.pictures", 3, "unknown setting 'datafree.ood.pictures'"),
        ("vaccine.alpha", 0.0, "alpha 0.0"),
    ],
)
def test_wrong_values_are_named(key, value, words):
    with pytest.raises(UsageError) as caught:
        settings(**{key: value})
    assert words in str(caught.value)


def test_other_seeds_keep_the_bridge_on_its_own():
    found = settings(seeds=[0, 1, 2], bridge_seeds=[1])
    assert (found.on((1, 2)).seeds, found.on((1, 2)).bridged) == ((1, 2), (1,))
    assert found.on((5, 6)).bridged == (5,)
    assert settings().bridged == (0,)


def test_the_profile_paper_is_as_published():
    found = load_profile("paper").datafree
    assert found.training.schedule == sgd_schedule(50_000)
    assert (found.zskt, found.cmi, found.ood, found.clean_kd) == (
        ZSKTConfig(),
        CMIConfig(),
        replace(ReleasedOODConfig(), patches=load_profile("laptop").datafree.ood.patches),
        CleanKDConfig(),
    )
    assert (found.vaccine, found.retrospection) == (VaccineConfig(), RetrospectionConfig(renew=True))
    assert set(found.triggers) == set(RECIPES)


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_the_large_profiles_flip_crop_and_halve(profile):
    found = load_profile(profile).datafree.ood
    steps = found.schedule.steps
    assert (found.fixed, found.augmentation) == (False, CropFlip(4, 0.5))
    assert [found.schedule.rate(step) for step in (steps // 2 - 1, steps // 2)] == [1e-3, 5e-4]
    assert found.patches.picture.marks > 0


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_the_small_profiles_prepare_their_images_once(profile):
    found = load_profile(profile).datafree
    assert (found.ood.fixed, found.ood.schedule.drops, found.ood.schedule.decay) == (True, (), "cosine")
    disturbed = int(found.retrospection.outer * found.ood.schedule.batch)
    assert disturbed == 10
    assert found.retrospection.weight * disturbed / found.ood.schedule.batch == pytest.approx(0.03)
    assert not found.retrospection.softened


def test_a_profile_may_have_none(tmp_path):
    head, _, _ = Path(TINY).read_text().partition("[datafree]")
    (tmp_path / "my.toml").write_text(head.replace('name = "tiny"', 'name = "my"'))
    job = main_job.load(str(tmp_path / "my.toml"))
    assert job.profile.datafree is None
    assert "07_data_free" not in [entry.notebook for entry in job.notebooks]


def test_the_data_free_notebook_runs_on_its_own_seeds():
    entries = {entry.notebook: entry.parameters["seeds"] for entry in main_job.load("quick").notebooks}
    assert (entries["07_data_free"], entries["01_attack"]) == ([0, 1, 2], [0, 1])


def test_the_first_studys_notebooks_do_not_depend_on_it(monkeypatch):
    monkeypatch.setattr(main_job, "_images", lambda *_: {})
    monkeypatch.setattr(main_job, "_data_free_images", lambda stages: {"shapes/train": {}})
    monkeypatch.setattr(main_job, "_undistillable_images", lambda stages: {})
    job = main_job.load(TINY)
    found = {job_.notebook: main_job.fingerprint(job, job_, None) for job_ in expand(job)}
    assert "datafree" in found["07_data_free"]["settings"]
    assert "rated" in found["07_data_free"]["versions"]
    assert not any("datafree" in each["settings"] for name, each in found.items() if name != "07_data_free")
    assert not any(each["images"] for name, each in found.items() if name != "07_data_free")


@pytest.mark.parametrize("value", [3, "yes"])
def test_an_optional_table_is_a_table(value):
    with pytest.raises(UsageError, match=r"setting 'datafree' is .*; allowed: DataFree or NoneType"):
        load_profile(TINY, {"datafree": value})
