"""The published settings, number by number."""

import pytest

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule
from distill_lib.undistillable.ast import ASTConfig
from distill_lib.undistillable.nasty import NastyConfig
from distill_lib.undistillable.presets import PRESETS, published_ast
from distill_lib.undistillable.thieves import ThiefConfig
from distill_lib.vision.classifiers import CLASSIFIERS


@pytest.mark.parametrize(
    ("name", "nasty", "keep", "ast", "temperature"),
    [
        ("cifar10", (0.04, 4), 2, (0.05, 6, 2), 4),
        ("cifar100", (0.005, 20), 10, (0.035, 30, 7), 20),
        ("tiny_imagenet", (0.01, 20), 20, None, 20),
    ],
)
def test_defences_and_thieves(name, nasty, keep, ast, temperature):
    preset = PRESETS[name]
    assert (preset.nasty.omega, preset.nasty.temperature) == nasty
    assert preset.keep == keep
    assert (preset.ast and (preset.ast.alpha, preset.ast.temperature, preset.ast.keep)) == ast
    assert (preset.thief.alpha, preset.thief.temperature) == (0.9, temperature)
    assert (preset.stingy_thief.alpha, preset.stingy_thief.temperature) == (0.9, 20)
    assert {*preset.teachers, *preset.students} <= CLASSIFIERS.keys()


def test_the_defaults_of_every_configuration_are_cifar10s():
    preset = PRESETS["cifar10"]
    assert (preset.nasty, preset.ast, preset.thief) == (NastyConfig(), ASTConfig(), ThiefConfig())


@pytest.mark.parametrize(
    ("name", "epochs", "rates"),
    [
        ("cifar10", (0, 79, 80, 119, 120, 159), (0.1, 0.1, 0.01, 0.01, 0.001, 0.001)),
        ("cifar100", (0, 59, 60, 120, 160, 199), (0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008)),
    ],
)
def test_the_schedules_epoch_by_epoch(name, epochs, rates):
    preset = PRESETS[name]
    for schedule in (preset.schedule(), preset.nasty.schedule, preset.ast.schedule, preset.thief.schedule):
        assert [schedule.rate(390 * epoch) for epoch in epochs] == pytest.approx(rates)
        assert (schedule.batch, schedule.momentum, schedule.weight_decay) == (128, 0.9, 5e-4)


def test_a_schedule_is_scaled_in_images_and_epochs():
    assert PRESETS["cifar10"].schedule(1280, 4).steps == 40
    assert PRESETS["cifar10"].schedule(1280, 4).rate(20) == pytest.approx(0.01)
    assert PRESETS["cifar10"].schedule(64, 4, batch=16).steps == 16


def test_the_cnn_has_a_schedule_of_its_own():
    preset = PRESETS["cifar10"]
    assert preset.student_schedule("cnn") == Schedule(100 * 390, 128, "adam", 1e-3, weight_decay=0.0)
    assert preset.student_schedule("cnn_small", 1280, 0.1).steps == 100
    assert preset.student_schedule("preresnet20") == preset.schedule()
    assert preset.student_schedule("resnet18", share=0.5).steps == 80 * 390


def test_ast_of_a_resnet50():
    assert published_ast("cifar100", "resnet50").alpha == 0.03
    assert published_ast("cifar100", "resnet18").alpha == 0.035
    assert published_ast("tiny_imagenet", "resnet18") is None
    with pytest.raises(UsageError, match="unknown preset 'mnist'"):
        published_ast("mnist", "resnet18")
