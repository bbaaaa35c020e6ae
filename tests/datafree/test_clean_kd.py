"""Clean-data KD: its loss pinned by value, its defences, its settings."""

import math

import pytest
import torch

from distill_lib.datafree import defended
from distill_lib.datafree.clean_kd import CleanKDConfig, clean_kd
from distill_lib.datafree.retrospection import RetrospectionConfig
from distill_lib.datafree.vaccine import VaccineConfig
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch
from distill_lib.vision.crop_flip import CropFlip

CONFIG = CleanKDConfig(Schedule(4, 8, "sgd", 0.01), augmentation=CropFlip(0, 0.0))
SR = RetrospectionConfig(share=0.5, steps=2)


def constant(model, logits):
    """Make a network answer the same logits to every image."""
    model.head.weight.data.zero_()
    model.head.bias.data.copy_(torch.tensor(logits))
    return model


def test_the_loss_by_value(teacher, student, clean):
    """The teacher's chances at T = 6 are 9/12, 1/12, 1/12, 1/12, the student's all 1/4."""
    constant(teacher, [6 * math.log(9.0), 0.0, 0.0, 0.0])
    constant(student, [0.0] * 4)
    log = clean_kd(teacher, student, CONFIG, 0, **clean)
    divergence = 0.75 * math.log(0.75 * 4) + 3 / 12 * math.log(4 / 12)
    assert log[0]["kl"] == pytest.approx(0.95 * 36 * divergence / 4, rel=1e-5)  # over batch and four classes
    assert log[0]["cross_entropy"] == pytest.approx(0.05 * math.log(4.0), rel=1e-5)


def test_the_mean_over_the_batch_alone_is_an_option(teacher, student, clean):
    constant(teacher, [6 * math.log(9.0), 0.0, 0.0, 0.0])
    constant(student, [0.0] * 4)
    log = clean_kd(teacher, student, CleanKDConfig(CONFIG.schedule, mean="batch"), 0, **clean)
    assert log[0]["kl"] == pytest.approx(0.95 * 36 * (0.75 * math.log(3.0) - 0.25 * math.log(3.0)), rel=1e-5)


def test_the_vaccine_leaves_the_cross_entropy(teacher, fresh_student, clean):
    plain = clean_kd(teacher, fresh_student(), CONFIG, 0, **clean)
    sv = VaccineConfig(acceptance=False, start=0.0)
    weighed = clean_kd(teacher, fresh_student(), defended(CONFIG, "sv", sv=sv), 0, **clean)
    assert weighed[0]["cross_entropy"] == plain[0]["cross_entropy"]
    assert weighed[0]["kl"] < plain[0]["kl"]


def test_retrospection_acts_in_the_last_steps_alone(teacher, fresh_student, clean):
    plain = clean_kd(teacher, fresh_student(), CONFIG, 0, **clean)
    looked = clean_kd(teacher, fresh_student(), defended(CONFIG, "sr", sr=SR), 0, **clean)
    assert [row["kl"] for row in plain[:2]] == [row["kl"] for row in looked[:2]]
    assert plain[2]["kl"] != looked[2]["kl"]  # the batch norms stand still
    assert [row["lr"] for row in looked] == [0.01, 0.01, SR.student_lr, SR.student_lr]
    assert [row["sr"] > 0 for row in looked] == [False, False, True, True]


class Stop(Exception):
    """Stands for a killed process."""


def test_a_killed_run_ends_bit_equal(teacher, fresh_student, same, clean, tmp_path):
    """The clock and the accepted vaccine are part of the checkpoint."""
    config = defended(CONFIG, "abd", sv=VaccineConfig(acceptance=False, start=0.0), sr=SR)
    whole, killed, resumed = fresh_student(), fresh_student(), fresh_student()
    expected = clean_kd(teacher, whole, config, 0, **clean)

    def stop(step, *_):
        if step == 4:
            raise Stop

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(Stop):
        clean_kd(teacher, killed, config, 0, Watch(stop, checkpoint, every_s=-1), **clean)
    assert clean_kd(teacher, resumed, config, 0, Watch(checkpoint=checkpoint), **clean) == expected
    assert same(whole, resumed)


def test_the_published_settings_are_the_defaults():
    config = CleanKDConfig()
    assert (config.alpha, config.temperature, config.mean) == (0.95, 6.0, "batch_and_classes")
    assert (config.schedule.steps, config.schedule.optimiser, config.schedule.lr) == (170 * 78, "sgd", 0.1)


def test_wrong_values_are_named(teacher, student, clean):
    with pytest.raises(UsageError, match="alpha 2 and temperature"):
        CleanKDConfig(alpha=2)
    with pytest.raises(UsageError, match="32 images and 31 labels"):
        clean_kd(teacher, student, CONFIG, 0, images=clean["images"], labels=clean["labels"][1:])
