"""NAD on encoders: its weights, and that the poisoned encoder itself learns from its fine-tuned self."""

from copy import deepcopy

import pytest
import torch

from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import resolve
from distill_lib.distillation.nad import nad, nad_config
from distill_lib.training.loop import Schedule
from distill_lib.vision.encoders import EncoderConfig, build_encoder


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


def test_the_published_weights_on_the_last_three_stages():
    config = nad_config(Schedule(7), projection=(16, 8))
    loss = resolve(config.loss, config.weight)
    weights = {stage: loss.weight * each for stage, each in zip(loss.stages, loss.relative, strict=True)}
    assert weights == {"stage2": 500, "stage3": 1000, "stage4": 1000}
    assert config == DistilConfig(Schedule(7), "at:nad", nt_xent_weight=1.0, projection=(16, 8))


def test_the_poisoned_encoder_is_distilled_from_its_fine_tuned_self(images):
    poisoned, teacher = (build_encoder(EncoderConfig(10, 4, 4), seed) for seed in (0, 1))
    before, fixed, expected = deepcopy(poisoned), deepcopy(teacher.state_dict()), deepcopy(poisoned)
    config = nad_config(Schedule(3, 8), projection=(16, 8))
    log = nad(poisoned, teacher, images, config, seed=2)
    assert log == distil(teacher, expected, images, config, 2)
    assert list(log[0]) == ["step", "lr", "at", "nt_xent"]
    assert torch.equal(poisoned.conv.weight, expected.conv.weight)
    assert not torch.equal(poisoned.conv.weight, before.conv.weight)
    assert all(torch.equal(value, fixed[name]) for name, value in teacher.state_dict().items())
