"""Profiles: what they hold, and how wrong settings are answered."""

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
