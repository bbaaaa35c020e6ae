"""The `[undistillable]` table: filled strictly, refused in one sentence."""

from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.evaluation.undistillable import controls_of
from distill_lib.study import main_job
from distill_lib.study.config.load import PROFILES, load_profile
from distill_lib.study.jobs import expand
from distill_lib.study.undistillable.settings import ablation_settings
from distill_lib.undistillable import PRESETS, StingyConfig
from distill_lib.undistillable.ast import ABLATION, ASTConfig, ablated

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
NOTEBOOK = "08_undistillable"


def settings(**overrides):
    return load_profile(TINY, {f"undistillable.{key}": value for key, value in overrides.items()}).undistillable


def test_teachers_and_thieves_share_schedule_and_augmentation():
    found = settings(**{"augmentation.padding": 2})
    for name in ("nasty", "ast"):
        assert (found.config(name).schedule, found.config(name).augmentation.padding) == (found.schedule, 2)
    assert found.config("normal") is None
    assert found.config("stingy") == StingyConfig()
    assert found.thief_config("cnn_small").schedule == found.cnn_schedule
    assert found.thief_config("preresnet8_small").schedule == found.student_schedule


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("teachers", ["good"], "unknown name in undistillable.teachers 'good'; allowed: normal, nasty, stingy, ast"),
        ("thieves", ["copy"], "unknown name in undistillable.thieves 'copy'; allowed: alone, label_smoothing, kd"),
        ("students", ["wrn"], "unknown name in undistillable.students 'wrn'; allowed: resnet18"),
        ("ablation", ["js"], "unknown name in undistillable.ablation 'js'; allowed: ast, kl"),
        ("seeds", [], "undistillable.seeds is empty"),
        ("test", -1, "undistillable.test -1"),
        ("alphas", [1.5], "alpha 1.5"),
        ("ast.divergence", "js", "unknown divergence of AST 'js'"),
        ("ast.schedule.steps", 3, "undistillable.ast.schedule would set it apart from the others"),
        ("thief.augmentation.padding", 1, "undistillable.thief.augmentation would set it apart"),
        ("nasty.tau", 3, "unknown setting 'undistillable.nasty.tau'"),
    ],
)
def test_wrong_values_are_named(key, value, words):
    with pytest.raises(UsageError) as caught:
        settings(**{key: value})
    assert words in str(caught.value)


def test_other_seeds_keep_what_is_swept_on_its_own():
    found = settings(seeds=[0, 1, 2], swept_seeds=[1])
    assert (found.on((1, 2)).seeds, found.on((1, 2)).swept) == ((1, 2), (1,))
    assert found.on((5, 6)).swept == (5,)
    assert settings().swept == (0,)


def test_settings_survive_a_varied_profile():
    profile = load_profile(TINY)
    assert profile.varied({}).undistillable == profile.undistillable
    row = ablation_settings("kl_matched", profile.undistillable.ast)
    varied = profile.varied({f"undistillable.{key}": value for key, value in row.items()})
    assert varied.undistillable.ast == ablated(profile.undistillable.ast, "kl_matched")


def test_every_row_of_the_ablation_is_a_setting():
    assert {name: list(ablation_settings(name, ASTConfig())) for name in ABLATION} == {
        "ast": [], "kl": ["ast.divergence"], "kl_matched": ["ast.divergence", "ast.alpha"], "dense": ["ast.keep"],
        "clean": ["ast.target"], "clamped": ["ast.target"], "augmented": ["ast.augment_targets"],
        "paired": ["ast.paired"],
    }  # fmt: skip


def test_the_profile_paper_is_as_published():
    found, preset = load_profile("paper").undistillable, PRESETS["cifar10"]
    assert found.schedule == found.student_schedule == preset.schedule()
    cnn = preset.student_schedule("cnn")
    assert all(getattr(found.cnn_schedule, name) == value for name, value in vars(cnn).items())
    assert found.cnn_schedule.drops == ()
    assert (found.nasty.omega, found.nasty.temperature) == (preset.nasty.omega, preset.nasty.temperature)
    assert (found.ast, found.thief, found.stingy.keep) == (preset.ast, preset.thief, preset.keep)
    assert (found.teacher, set(found.students)) == ("resnet18", set(preset.students))
    assert set(found.ablation) == set(ABLATION)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_study_with_the_published_thief(name):
    found = load_profile(name).undistillable
    assert found is not None
    assert (found.thief.alpha, found.thief.temperature) == (0.9, 4.0)
    assert {"alone", "label_smoothing", "kd", "kd_t20"} <= set(found.thieves)
    assert found.seeds[:3] == (0, 1, 2)


@pytest.mark.parametrize("name", [*PROFILES, TINY])
def test_a_thief_never_runs_without_its_control(name):
    found = load_profile(name).undistillable
    every, all_thieves = set(found.thieves), {*found.thieves, *found.further}
    for thief in all_thieves:
        needed = {control for control in controls_of(thief).values() if control}
        assert needed <= (every if thief in every else all_thieves), thief


def test_a_profile_may_have_none(tmp_path):
    head, _, _ = Path(TINY).read_text().partition("[undistillable]")
    (tmp_path / "my.toml").write_text(head.replace('name = "tiny"', 'name = "my"'))
    job = main_job.load(str(tmp_path / "my.toml"))
    assert job.profile.undistillable is None
    assert NOTEBOOK not in [entry.notebook for entry in job.notebooks]


def test_the_notebook_runs_on_its_own_seeds():
    entries = {entry.notebook: entry.parameters["seeds"] for entry in main_job.load("quick").notebooks}
    assert (entries[NOTEBOOK], entries["01_attack"]) == ([0, 1, 2], [0, 1])


def test_the_other_notebooks_do_not_depend_on_it(monkeypatch):
    for name in ("_images", "_data_free_images", "_undistillable_images"):
        monkeypatch.setattr(main_job, name, lambda *_, name=name: {name: {}} if name != "_images" else {})
    job = main_job.load(TINY)
    found = {each.notebook: main_job.fingerprint(job, each, None) for each in expand(job)}
    own = found.pop(NOTEBOOK)
    assert "undistillable" in own["settings"]
    assert "datafree" not in own["settings"]
    assert ("judged" in own["versions"], "rated" in own["versions"]) == (True, False)
    assert list(own["images"]) == ["_undistillable_images"]
    assert not any("undistillable" in each["settings"] or "judged" in each["versions"] for each in found.values())
    assert not any("_undistillable_images" in each["images"] for each in found.values())
