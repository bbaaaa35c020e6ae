"""The registries: every teacher by name, against every thief."""

import math
from dataclasses import replace

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule
from distill_lib.undistillable import TEACHERS, THIEVES, StingyConfig, ThiefConfig, defend, steal
from distill_lib.undistillable.pgd import PGDConfig
from distill_lib.vision.features import extract

SHORT = Schedule(4, 8, "sgd", 0.01)


def short(name):
    """The default settings of a teacher, for four steps."""
    changes = {"nasty": {"schedule": SHORT, "minimum": 0.0}, "ast": {"schedule": SHORT, "pgd": PGDConfig(iterations=2)}}
    return replace(TEACHERS[name].config(), **changes.get(name, {})) if TEACHERS[name].config else None


def test_the_names_are_the_studys():
    assert list(TEACHERS) == ["normal", "nasty", "stingy", "ast"]
    assert {"alone", "label_smoothing", "kd", "hard_label", "skeptical"} <= THIEVES.keys()


@pytest.mark.parametrize("name", TEACHERS)
def test_every_thief_robs_every_teacher(normal, fresh, data, name):
    model = fresh(3)
    teacher, log = defend(name, normal, short(name), 0, model=model, images=data[0], labels=data[1])
    assert len(log) == (4 if TEACHERS[name].train else 0)
    assert not teacher.training
    if TEACHERS[name].train:
        assert teacher is model
    for thief in THIEVES:
        student = fresh()
        steal(
            thief,
            teacher,
            student,
            ThiefConfig(SHORT),
            0,
            images=data[0],
            labels=data[1],
            method=lambda *_: [],
        )
        assert extract(student, data[0]).isfinite().all()


def test_teachers_without_training(normal, data):
    assert defend("normal", normal) == (normal, [])
    stingy, _ = defend("stingy", normal, StingyConfig(keep=3))
    answers = extract(stingy, data[0])
    assert (answers.isfinite().sum(1) == 3).all()
    assert answers.amin() == -math.inf
    assert torch.equal(answers.argmax(1), extract(normal, data[0]).argmax(1))
    assert extract(defend("stingy", normal, StingyConfig(finite=True))[0], data[0]).isfinite().all()


def test_what_is_missing_is_named(normal, fresh):
    with pytest.raises(UsageError, match="unknown undistillable teacher 'kind'; allowed: normal, nasty, stingy, ast"):
        defend("kind", normal)
    with pytest.raises(UsageError, match="teacher 'nasty' is trained; it needs a fresh model, images and labels"):
        defend("nasty", normal, model=fresh())
