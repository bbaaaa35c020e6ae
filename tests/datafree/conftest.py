"""Tiny networks and images for the data-free methods."""

import pytest
import torch

from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet

CLASSES = 4


def _teacher():
    """A WRN whose batch norms and head are away from their start, so that its answers differ."""
    model = build_wide_resnet(WideResNetConfig(10, 2, CLASSES, base=4, stem_stride=4), 0)
    source = torch.Generator().manual_seed(0)
    for _ in range(5):
        model(torch.rand(32, 3, 32, 32, generator=source))
    model.head.weight.data.mul_(8)
    return model.eval()


@pytest.fixture
def teacher():
    return _teacher()


@pytest.fixture
def student():
    return build_wide_resnet(WideResNetConfig(10, 1, CLASSES, base=4, stem_stride=4), 1)


@pytest.fixture
def fresh_student():
    """Builds equal students."""
    return lambda: build_wide_resnet(WideResNetConfig(10, 1, CLASSES, base=4, stem_stride=4), 1)


@pytest.fixture
def unit_images():
    return torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def clean():
    """32 uint8 images and their labels."""
    source = torch.Generator().manual_seed(2)
    return {
        "images": torch.randint(0, 256, (32, 3, 32, 32), generator=source).to(torch.uint8),
        "labels": torch.arange(32) % CLASSES,
    }


@pytest.fixture
def same():
    """Whether two networks are equal bit for bit, buffers too."""

    def compare(one, two):
        first, second = one.state_dict(), two.state_dict()
        return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

    return compare
