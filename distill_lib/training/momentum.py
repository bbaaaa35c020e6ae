"""Momentum encoders: networks that follow another one as a moving average of its weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn


def follower(module: nn.Module) -> nn.Module:
    """A copy of `module` that no gradient changes.

    Put it among the trained modules all the same, so that a checkpoint holds it.
    """
    return deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(follower: nn.Module, leader: nn.Module, momentum: float | Tensor) -> None:
    """follower = momentum * follower + (1 - momentum) * leader, parameter by parameter, in place.

    Buffers (batch norm's statistics) are the follower's own.

    Args:
        follower: From `follower`.
        leader: What it was copied from.
        momentum: 0 to 1; a tensor stays on its device.
    """
    for own, led in zip(follower.parameters(), leader.parameters(), strict=True):
        own.copy_(momentum * own + (1 - momentum) * led)
