"""Profiles from their files: what they hold, and how a wrong file is answered."""

from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config.load import PROFILES, load_profile


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


def test_an_unknown_profile_lists_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="quick, laptop, gpu, paper"):
        load_profile("nosuch")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_profile(str(broken))


@pytest.mark.parametrize("name", ["quick", "my study", "../up"])
def test_a_file_needs_a_name_of_its_own(tmp_path, name):
    text = (Path(__file__).parents[2] / "profiles" / "tiny.toml").read_text().replace('"tiny"', f'"{name}"')
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UsageError, match="need a folder of their own"):
        load_profile(str(tmp_path / "my.toml"))
