"""Supervised training on a handful of images."""

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule
from distill_lib.training.supervised import (
    SteppedSchedule,
    SupervisedConfig,
    sgd_schedule,
    stepped_schedule,
    train_classifier,
)
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.features import extract
from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet


def build():
    return build_wide_resnet(WideResNetConfig(10, 1, classes=3, base=4, stem_stride=4), 0)


@pytest.fixture(scope="module")
def data():
    """48 noisy images in three colours."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    images = torch.randint(0, 100, (48, 3, 32, 32), generator=source)
    images[torch.arange(48), labels] += 120
    return images.to(torch.uint8), labels


def test_it_learns_and_leaves_eval_mode(data):
    model = build()
    log = train_classifier(model, *data, SupervisedConfig(sgd_schedule(48, epochs=12, batch=16, lr=0.05)), seed=0)
    assert (extract(model, data[0]).argmax(1) == data[1]).float().mean() > 0.9
    assert log[-1]["cross_entropy"] < log[0]["cross_entropy"]
    assert not any(each.training for each in model.modules())


def test_the_first_step_by_hand(data):
    """The seed is that of order and augmentation."""
    log = train_classifier(build(), *data, SupervisedConfig(Schedule(1, 16)), seed=3)
    source = torch.Generator().manual_seed(3)
    rows = torch.randperm(48, generator=source)[:16]
    logits = build().train()(CropFlip()(data[0][rows], source))
    expected = -logits.log_softmax(1)[torch.arange(16), data[1][rows]].mean()
    assert log[0]["cross_entropy"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_published_schedule():
    schedule = sgd_schedule(50_000)
    assert schedule == Schedule(200 * 390, 128, "sgd", 0.1, 0.9, 5e-4, "cosine")
    assert sgd_schedule(100, 3, batch=128).steps == 3


def test_the_stepped_schedule_falls_at_its_epochs():
    """160 epochs over 50,000 images: .1, then .01 from epoch 80, .001 from epoch 120."""
    schedule = stepped_schedule(50_000)
    assert (schedule.steps, schedule.batch, schedule.optimiser, schedule.weight_decay) == (160 * 390, 128, "sgd", 5e-4)
    rates = [schedule.rate(epoch * 390 + shift) for epoch in (80, 120) for shift in (-1, 0)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])
    assert schedule.rate(0) == 0.1
    assert schedule.rate(160 * 390 - 1) == pytest.approx(0.001)


def test_the_stepped_schedule_keeps_its_shape_and_trains(data):
    schedule = stepped_schedule(48, 10, drops=(0.3, 0.6, 0.8), factor=0.2, batch=48, lr=0.05)
    log = train_classifier(build(), *data, SupervisedConfig(schedule), seed=0)
    expected = [0.05] * 3 + [0.01] * 3 + [0.002] * 2 + [0.0004] * 2
    assert [row["lr"] for row in log] == pytest.approx(expected)


@pytest.mark.parametrize("settings", [{"drops": (0.5, 0.2)}, {"drops": (0.0,)}, {"drops": (1.0,)}, {"factor": 0}])
def test_impossible_drops_are_named(settings):
    with pytest.raises(UsageError, match="are impossible; allowed: shares between 0 and 1"):
        SteppedSchedule(10, **settings)


def test_wrong_input_is_named(data):
    images, labels = data
    config = SupervisedConfig(Schedule(1, 16))
    with pytest.raises(UsageError, match="48 images and 47 labels"):
        train_classifier(build(), images, labels[1:], config, 0)
    with pytest.raises(UsageError, match="cannot be learnt"):
        train_classifier(build(), images, labels - 1, config, 0)
    with pytest.raises(UsageError, match="0 epochs over 10 images"):
        sgd_schedule(10, 0)
