"""Profiles: what they hold, and how wrong settings are answered."""

import re
from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config import PROFILES, Profile, fill, load_profile


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads_and_names_itself(name):
    profile = load_profile(name)
    assert profile.name == name
    assert set(profile.downstream) <= set(profile.targets)
    assert profile.distillation.teacher == "finetuned"
    assert profile.distillation.student == "warmup"
    assert profile.distillation.loss == "at"


def test_the_paper_profile_has_the_published_settings():
    paper = load_profile("paper")
    assert (paper.encoder.depth, paper.encoder.width, paper.encoder.stem_stride) == (18, 64, 1)
    assert (paper.pretraining.epochs, paper.pretraining.optimisation.batch) == (1000, 256)
    assert paper.pretraining.optimisation.lr == 1e-3
    assert (paper.injection.epochs, paper.injection.optimisation.lr) == (200, 1e-3)
    assert paper.injection.optimisation.weight_decay == 5e-4
    assert paper.defender.share == 0.05
    steps_of_500_epochs = 500 * (2500 // 128)
    distilled = paper.defender.views * (1 - paper.defender.teacher - paper.defender.warmup) / (2 * 128)
    assert distilled == pytest.approx(steps_of_500_epochs, rel=0.05)


def test_overrides_reach_nested_settings_and_nothing_else():
    plain, changed = load_profile("quick"), load_profile("quick", {"defender.share": 0.05})
    assert changed.defender.share == 0.05
    assert changed.pretraining == plain.pretraining
    assert changed.defender.views == plain.defender.views


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"defender.shre": 1.0}, ["defender.shre", "defender.share"]),
        ({"colour": 1}, ["colour", "pretrain"]),
        ({"defender.share": "much"}, ["defender.share", "much", "float"]),
        ({"defender.share": 0.0}, ["0.0", "above 0"]),
        ({"defender.share": 1.5}, ["1.5", "at most 1"]),
        ({"defender.views": 1.5}, ["defender.views", "1.5", "int"]),
        ({"pretraining.epochs": True}, ["pretraining.epochs", "True", "int"]),
        ({"seeds": 3}, ["seeds", "3"]),
        ({"defender": 3}, ["defender", "3", "table"]),
        ({"defender.teacher": 0.6, "defender.warmup": 0.5}, ["below 1"]),
        ({"downstream": ["mars"]}, ["mars", "patterns"]),
    ],
)
def test_wrong_settings_are_one_sentence_that_names_them(overrides, words):
    with pytest.raises(UsageError) as caught:
        load_profile("quick", overrides)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_an_unknown_profile_lists_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="quick, laptop, gpu, paper"):
        load_profile("nosuch")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_profile(str(broken))


def test_a_missing_setting_is_named():
    with pytest.raises(UsageError, match="'summary' is missing"):
        fill(Profile, {"name": "x"})


SWEEP = {
    "name": "size",
    "axis": "pixels",
    "vary": {"injection.trigger_size": [6, 14], "defender.share": [0.01, 0.05]},
    "cells": ["attacked", "finetune", "recipe", "poisoned/random/cosine"],
}


def test_a_sweep_is_plain_data_and_every_combination_is_a_point():
    (sweep,) = load_profile("quick", {"sweeps": [{**SWEEP, "fixed": {"injection.epochs": 3}}]}).sweeps
    assert sweep.points() == [
        {"injection.epochs": 3, "injection.trigger_size": size, "defender.share": share}
        for size in (6, 14)
        for share in (0.01, 0.05)
    ]
    assert sweep.figure == "robustness"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, ["sweeps.colour", "axis"]),
        ({"vary": {"injection.trigger_sise": [6]}}, ["'size'", "injection.trigger_sise", "injection.trigger_size"]),
        ({"vary": {"injection.trigger_size": ["big"]}}, ["'size'", "injection.trigger_size", "big", "int"]),
        ({"vary": {"defender.share": [0.0]}}, ["'size'", "0.0", "above 0"]),
        ({"vary": {"defender.share": []}}, ["'size'", "nothing"]),
        ({"vary": {"distillation.teacher": ["poisoned"]}}, ["'size'", "distillation.teacher"]),
        ({"vary": {"seeds": [1]}}, ["'size'", "seeds"]),
        ({"cells": ["nosuch"]}, ["'size'", "nosuch", "finetune", "teacher/student/loss"]),
        ({"cells": ["nosuch/random/at"]}, ["teacher", "nosuch", "poisoned"]),
        ({"cells": ["poisoned/random/nosuch"]}, ["loss", "nosuch", "cosine"]),
        ({"panels": ["injection.trigger_size"]}, ["'size'", "injection.trigger_size", "defender.share"]),
        ({"figure": "pie"}, ["'size'", "pie", "robustness, harm"]),
        ({"attack": "poisoned_data"}, ["'size'", "poisoned_data", "badencoder"]),
    ],
)
def test_a_wrong_sweep_is_refused_by_name(change, words):
    with pytest.raises(UsageError) as caught:
        load_profile("quick", {"sweeps": [{**SWEEP, **change}]})
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", PROFILES)
def test_every_word_for_a_line_is_that_of_a_line(name):
    for sweep in load_profile(name).sweeps:
        texts = {f"{k.rpartition('.')[2].replace('_', ' ')} {v}" for k, vs in sweep.vary.items() for v in vs}
        assert set(sweep.words) <= {*sweep.cells, *texts}


def test_a_colour_may_be_fixed_and_is_off_where_it_differs():
    sweep = {**SWEEP, "attack": "poisoned_data", "fixed": {"poisoned_data.colour": [255, 255, 255]}}
    further = {"poisoned_data": {"downstream": ["builtin"]}}
    profile = load_profile("quick", {"sweeps": [sweep], "further": further, "poisoned_data.colour": [255, 0, 0]})
    (point, *_) = profile.sweeps[0].points()
    assert profile.varied(point).poisoned_data.colour == (255, 255, 255)
    assert "poisoned_data.colour" in profile.off(point)
    own = {"poisoned_data.colour": [255, 0, 0], "ctrl.trigger.positions": [[7, 7], [15, 15]]}
    assert profile.off(own) == {}


def test_a_sweep_changes_no_other_setting_and_what_equals_the_profile_is_not_off():
    profile = load_profile("quick")
    varied = profile.varied({"defender.share": 0.05})
    assert varied.injection == profile.injection
    assert varied.sweeps == ()
    settings = {"defender.share": profile.defender.share, "injection.trigger_size": 6, "distillation.weights.at": 100.0}
    assert profile.off(settings) == {"injection.trigger_size": 6}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"evaluation.probe": "svm"}, "unknown probe 'svm'; allowed: head, linear, knn"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; allowed: auto, float32, bf16"),
        ({"losses": ["kd", "nosuch"]}, "unknown loss 'nosuch'"),
        ({"distillation.weights": {"nosuch": 1.0}}, "unknown loss 'nosuch'"),
        ({"defender.teacher": -0.5}, "defender.teacher is -0.5; allowed: 0 or more"),
        ({"defender.views": 0}, "defender.views is 0; allowed: 1 or more"),
        ({"injection.optimisation": {"batch": 0}}, "injection.optimisation.batch is 0; allowed: 2 or more"),
    ],
)
def test_impossible_values_are_refused_before_anything_runs(override, sentence):
    with pytest.raises(UsageError, match=re.escape(sentence)):
        load_profile("quick", override)


def test_one_weight_alone_can_be_overridden():
    weights = load_profile("quick", {"distillation.weights.at": 7.0}).distillation.weights
    assert weights == {**load_profile("quick").distillation.weights, "at": 7.0}


@pytest.mark.parametrize("name", ["quick", "my study", "../up"])
def test_a_file_needs_a_name_of_its_own(tmp_path, name):
    text = (Path(__file__).parents[1] / "profiles" / "tiny.toml").read_text().replace('"tiny"', f'"{name}"')
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UsageError, match="need a folder of their own"):
        load_profile(str(tmp_path / "my.toml"))
