"""Settings from plain tables: how wrong ones are answered."""

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config.fill import fill
from distill_lib.study.config.load import load_profile
from distill_lib.study.config.profile import Profile


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
        ({"defender.share.most": 1.0}, ["most", "0.01", "table"]),
        ({"attack.rate": 1.0}, ["rate", "badencoder", "table"]),
        ({"seeds": []}, ["seeds is empty"]),
        ({"downstream": []}, ["downstream is empty"]),
        ({"further": {"badencoder": {"downstream": ["patterns"]}}}, ["main attack", "badencoder"]),
    ],
)
def test_wrong_settings_are_one_sentence_that_names_them(overrides, words):
    with pytest.raises(UsageError) as caught:
        load_profile("quick", overrides)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named():
    with pytest.raises(UsageError, match="'summary' is missing"):
        fill(Profile, {"name": "x"})
