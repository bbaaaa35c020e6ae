"""A profile under other settings, and impossible ones."""

import re

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config.load import load_profile


def test_overrides_reach_nested_settings_and_nothing_else():
    plain, changed = load_profile("quick"), load_profile("quick", {"defender.share": 0.05})
    assert changed.defender.share == 0.05
    assert changed.pretraining == plain.pretraining
    assert changed.defender.views == plain.defender.views


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
