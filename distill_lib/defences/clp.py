"""CLP: channel Lipschitz pruning (Zheng et al., ECCV 2022), which needs no data.

A channel that answers a small trigger strongly must have steep weights: its Lipschitz bound stands out in its layer.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError


@dataclass(frozen=True)
class CLPConfig:
    """Settings of the pruning.

    Attributes:
        u: How many standard deviations above its layer's mean a channel's bound must lie to be pruned. Among n channels
            none lies above (n - 1) / sqrt(n): the published 3 never prunes a layer of fewer than 11
            channels and hardly ever one of a few more, so that small encoders need a lower one [ours].
    """

    u: float = 3.0

    def __post_init__(self):
        if not (math.isfinite(self.u) and self.u >= 0):
            raise UsageError(f"a pruning threshold u of {self.u} is impossible; allowed: 0 or a positive number")


@torch.no_grad()
def clp(encoder: nn.Module, config: CLPConfig | None = None) -> dict[str, Tensor]:
    """Zero batch norm's weight and bias of every channel whose bound is an outlier in its layer, in place.

    A layer is a convolution and the batch norm after it; channel c of it is pruned if
    bound_c > mean + u sd over the layer's channels, sd with n - 1.

    Args:
        encoder: Its batch norms have running statistics.
        config: Settings.

    Returns:
        For each layer, by the batch norm's path: the pruned channels, int64, ascending; empty where none was.
    """
    config = config or CLPConfig()
    pruned = {}
    for path, convolution, norm in layers(encoder):
        channels = outliers(bounds(convolution, norm), config.u)
        norm.weight[channels] = 0
        norm.bias[channels] = 0
        pruned[path] = channels.cpu()
    return pruned


def layers(encoder: nn.Module) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """(path of the batch norm, convolution, batch norm) of each batch norm that follows a convolution.

    "Follows" is the order of registration, as in the release; the encoders here register in the order of use.
    """
    found, last = [], None
    for path, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            last = module
        elif isinstance(module, nn.BatchNorm2d) and last is not None:
            found.append((path, last, module))
            last = None
    return found


def bounds(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Upper bound of each output channel's Lipschitz constant, float64 (channels,).

    The largest singular value of the channel's kernel, as a matrix (inputs, height x width), times batch norm's scale
    |weight| / sd. The scale is without batch norm's epsilon. A channel switched off by batch norm has the bound 0.
    """
    kernels = convolution.weight.double().flatten(2)
    scale = norm.weight.double().abs() / norm.running_var.double().sqrt()
    return (torch.linalg.matrix_norm(kernels, ord=2) * scale).masked_fill(norm.weight == 0, 0.0).nan_to_num(nan=0.0)


def outliers(values: Tensor, u: float) -> Tensor:
    """Positions, int64, of the values (n,) above mean + u sd (n - 1).

    An infinite bound (a channel that never varied) is an outlier in itself and stays out of mean and deviation [ours];
    otherwise it would hide all others.
    """
    finite = values[values.isfinite()]
    limit = finite.mean() + u * finite.std() if len(finite) > 1 else torch.inf
    return (values > limit).nonzero().squeeze(1) if len(finite) > 1 else values.isinf().nonzero().squeeze(1)
