"""Momentum encoders: the moving average to the number."""

import pytest
import torch
from torch import nn

from distill_lib.training.momentum import follow, follower


@pytest.fixture
def leader():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_follower_is_a_copy_without_gradients(leader):
    copy = follower(leader)
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), leader.parameters(), strict=True))
    assert not any(each.requires_grad for each in copy.parameters())
    assert all(each.requires_grad for each in leader.parameters())
    leader[0].weight.data.add_(1)
    assert not torch.equal(copy[0].weight, leader[0].weight)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.996, 1.0, torch.tensor(0.9)])
def test_the_moving_average_is_exact(leader, momentum):
    copy = follower(leader)
    kept = [each.clone() for each in copy.parameters()]
    for _ in range(3):
        for each in leader.parameters():
            each.data.add_(torch.randn_like(each))
        follow(copy, leader, momentum)
        led = [each.detach() for each in leader.parameters()]
        kept = [momentum * own + (1 - momentum) * each for own, each in zip(kept, led, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), kept, strict=True))


def test_a_tenth_of_the_way():
    copy, leader = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    copy.weight.data.fill_(1.0)
    leader.weight.data.fill_(2.0)
    follow(copy, leader, 0.9)
    assert copy.weight.item() == pytest.approx(1.1)


def test_buffers_are_the_followers_own(leader):
    copy = follower(leader)
    leader.train()(torch.randn(8, 3))
    follow(copy, leader, 0.5)
    assert torch.equal(copy[1].running_mean, torch.zeros(4))
