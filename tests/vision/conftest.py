"""What tests of networks share."""

import pytest
import torch
from torch import nn


@pytest.fixture
def disturbed():
    """Gives a function that moves a network's batch norms off their start, where they change nothing."""

    def disturb(model):
        source = torch.Generator().manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight.data, module.running_var):
                    values.copy_(0.5 + torch.rand(len(values), generator=source))
                for values in (module.bias.data, module.running_mean):
                    values.copy_(torch.randn(len(values), generator=source))
        return model

    return disturb
