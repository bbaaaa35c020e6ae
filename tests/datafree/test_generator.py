"""Generators: shapes, output ranges, the published size."""

import pytest
import torch
from torch import nn

from distill_lib.datafree.generator import GeneratorConfig, build_generator, sample
from distill_lib.errors import UsageError
from distill_lib.vision.encoders import MEAN, STD


@pytest.mark.parametrize("size", [16, 32])
def test_images_have_their_shape(size):
    generator = build_generator(GeneratorConfig(5, (8, 4), size), 0)
    assert generator(torch.randn(6, 5)).shape == (6, 3, size, size)


def test_the_published_size():
    generator = build_generator(GeneratorConfig(), 0)
    assert generator.start.weight.shape == (128 * 8 * 8, 100)
    convolutions = [each for each in generator.modules() if isinstance(each, nn.Conv2d)]
    assert [(each.in_channels, each.out_channels) for each in convolutions] == [(128, 128), (128, 64), (64, 3)]
    assert isinstance(generator.blocks[-1], nn.BatchNorm2d)


def test_normalised_output_becomes_standard_normal_in_the_networks():
    generator = build_generator(GeneratorConfig(5, (8, 4)), 0)
    inside = (generator(torch.randn(64, 5)) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(inside.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(inside.std((0, 2, 3)), torch.ones(3), atol=1e-2)


def test_unit_output_and_samples_are_images():
    generator = build_generator(GeneratorConfig(5, (8, 4), output="unit"), 0)
    images = generator(torch.randn(8, 5)).detach()
    assert 0 < float(images.min()) < float(images.max()) < 1
    looked = sample(build_generator(GeneratorConfig(5, (8, 4)), 0), 4, seed=1)
    assert (looked.shape, float(looked.min()) >= 0, float(looked.max()) <= 1) == ((4, 3, 32, 32), True, True)


def test_it_keeps_no_running_statistics_and_the_seed_decides():
    one, two, other = (build_generator(GeneratorConfig(5, (8, 4)), seed) for seed in (0, 0, 1))
    before = {name: value.clone() for name, value in one.state_dict().items()}
    one(torch.randn(4, 5))
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    assert torch.equal(one.start.weight, two.start.weight)
    assert not torch.equal(one.start.weight, other.start.weight)


def test_wrong_values_are_named():
    with pytest.raises(UsageError, match="image_size 30 is impossible"):
        GeneratorConfig(image_size=30)
    with pytest.raises(UsageError, match="unknown output of a generator 'tanh'"):
        GeneratorConfig(output="tanh")
