"""Students that are a copy but for their last stages."""

import pytest
import torch

from distill_lib.distillation.students import reinitialise
from distill_lib.vision.encoders import STAGES, EncoderConfig, build_encoder


@pytest.mark.parametrize("count", range(5))
def test_the_last_stages_alone_become_the_fresh_ones(count):
    student, fresh, before = (build_encoder(EncoderConfig(10, 16, 2), seed) for seed in (0, 1, 0))
    for encoder in (student, before):
        encoder.stage4[0].bn1.running_mean.fill_(3.0)
    reinitialise(student, fresh, count)
    taken = STAGES[len(STAGES) - count :]
    source = {name: fresh if name.split(".")[0] in taken else before for name in student.state_dict()}
    for name, value in student.state_dict().items():
        assert torch.equal(value, source[name].state_dict()[name]), name
