"""The 1 x 1 convolution of a shortcut that skips pixels."""

import pytest
import torch
from torch import nn

from distill_lib.vision.shortcut import Shortcut


@pytest.mark.parametrize("inputs", [4, 6, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_a_strided_convolution_with_its_gradients(inputs, stride):
    ours = Shortcut(inputs, 2 * inputs, stride).double()
    plain = nn.Conv2d(inputs, 2 * inputs, 1, stride, bias=False).double()
    plain.load_state_dict(ours.state_dict())
    images = torch.rand(3, inputs, 8, 8, dtype=torch.float64)
    seen = []
    for module in (ours.to(memory_format=torch.channels_last), plain):
        x = images.clone().requires_grad_(True)
        out = module(x)
        out.square().sum().backward()
        seen.append((out, x.grad, module.weight.grad))
    for mine, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_many_steps_with_few_channels_are_the_same_twice():
    """Where the kernel writes past its memory, they are not, or the process ends."""
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        module = Shortcut(4, 8, 2).to(memory_format=torch.channels_last)
        for _ in range(30):
            x = torch.rand(32, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_(True)
            module(x).square().sum().backward()
        runs.append(module.weight.grad.clone())
    assert torch.equal(*runs)
