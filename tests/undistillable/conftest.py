"""Tiny networks and images for the undistillable teachers and their thieves."""

import pytest
import torch

from distill_lib.training.loop import Watch
from distill_lib.vision.classifiers import ClassifierConfig, build_classifier
from distill_lib.vision.crop_flip import CropFlip

CLASSES = 4
TINY = ClassifierConfig("preresnet", 8, 16, CLASSES, stem_stride=4)


class Stop(Exception):
    """Stands for a killed process."""


@pytest.fixture
def plain():
    """An augmentation that changes nothing."""
    return CropFlip(0, 0.0)


@pytest.fixture
def fresh():
    """Builds networks of a seed, equal ones of the same."""
    return lambda seed=1: build_classifier(TINY, seed)


@pytest.fixture
def normal():
    """A network whose batch norms and head are away from their start, so that its answers differ."""
    model = build_classifier(TINY, 0)
    source = torch.Generator().manual_seed(0)
    for _ in range(5):
        model(torch.rand(32, 3, 32, 32, generator=source))
    model.head.weight.data.mul_(8)
    return model.eval()


@pytest.fixture(scope="session")
def data():
    """32 uint8 images and their labels."""
    source = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (32, 3, 32, 32), generator=source).to(torch.uint8)
    return images, torch.arange(32) % CLASSES


@pytest.fixture
def same():
    """Whether two networks are equal bit for bit, buffers too."""

    def compare(one, two):
        first, second = one.state_dict(), two.state_dict()
        return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

    return compare


@pytest.fixture
def resumes(fresh, same, tmp_path):
    """A training(model, watch) killed at a step and resumed ends bit-equal to one that ran through."""

    def check(training, last=3):
        def stop(step, *_):
            if step == last:
                raise Stop

        whole, killed, resumed = fresh(), fresh(), fresh()
        expected = training(whole, None)
        with pytest.raises(Stop):
            training(killed, Watch(stop, tmp_path / "run.pt", every_s=-1))
        assert training(resumed, Watch(checkpoint=tmp_path / "run.pt")) == expected
        assert same(whole, resumed)
        assert len(expected) > last

    return check
