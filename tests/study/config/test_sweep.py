"""Sweeps of a profile: their points, and how wrong ones are answered."""

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config.load import PROFILES, load_profile

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
        ({"vary": {"datafree.test": [1]}}, ["'size'", "datafree.test", "injection"]),
        ({"vary": {"evaluation.probe": ["head", "knn"]}}, ["'size'", "evaluation.probe", "every row"]),
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
