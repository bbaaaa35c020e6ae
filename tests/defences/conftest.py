"""A small encoder with statistics of its own, and images."""

from copy import deepcopy

import pytest
import torch

from distill_lib.training.loop import Schedule
from distill_lib.training.simclr import SimCLRConfig
from distill_lib.vision.encoders import EncoderConfig, build_encoder


def pixels(count, seed):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


@pytest.fixture(scope="session")
def share():
    """The defender's clean images."""
    return pixels(40, 0)


def _suspicious(config):
    encoder = build_encoder(config, 0)
    source = torch.Generator().manual_seed(5)
    for _ in range(3):
        encoder(torch.rand(16, 3, 32, 32, generator=source))
    for norm in encoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # as after a training: no weight is 1, no bias 0
            norm.weight.data.uniform_(0.5, 1.5, generator=source)
            norm.bias.data.uniform_(-0.3, 0.3, generator=source)
    return encoder.eval()


@pytest.fixture(scope="session")
def _kept():
    return {depth: _suspicious(EncoderConfig(depth, 4, 4)) for depth in (10, 18, 50)}


@pytest.fixture
def encoder(_kept):
    """Fresh for each test: defences work in place."""
    return deepcopy(_kept[10])


@pytest.fixture(params=[10, 18, 50])
def any_encoder(request, _kept):
    """With and without identity shortcuts, with bottlenecks."""
    return deepcopy(_kept[request.param])


@pytest.fixture
def settings():
    """A few steps of SimCLR."""
    return SimCLRConfig(Schedule(6, 16, lr=3e-3, weight_decay=1e-2), projection=(16, 8))


@pytest.fixture
def same():
    """Whether two state dicts are equal bit for bit, but for names that contain one of `except_for`."""

    def check(first, second, *except_for):
        assert first.keys() == second.keys()
        return all(
            torch.equal(value, second[name])
            for name, value in first.items()
            if not any(each in name for each in except_for)
        )

    return check
