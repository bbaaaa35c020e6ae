"""NAD on encoders: its weights, and that the poisoned encoder itself learns from its fine-tuned self."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import normalize

from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import resolve
from distill_lib.distillation.nad import nad_config
from distill_lib.training.loop import Schedule
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.encoders import EncoderConfig, build_encoder
from distill_lib.vision.features import collect, to_unit


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


def test_the_first_step_by_hand(images):
    """The student in train mode, its fine-tuned self in eval mode; without augmentation, on the stages' attention."""
    poisoned, teacher = (build_encoder(EncoderConfig(10, 4, 4), seed) for seed in (0, 1))
    config = nad_config(Schedule(1, 8), projection=(16, 8), nt_xent_weight=0.0, augmentation=CropFlip(0, 0.0))
    rows = torch.randperm(32, generator=torch.Generator().manual_seed(2))[:8]
    maps = [collect(model, to_unit(images[rows]))[1] for model in (deepcopy(poisoned).train(), teacher.eval())]
    expected = 0.0
    for stage, weight in {"stage2": 500, "stage3": 1000, "stage4": 1000}.items():
        one, two = (normalize(each[stage].square().mean(1).flatten(1), dim=1) for each in maps)
        expected += weight * (one - two).square().mean().item()
    (row,) = distil(teacher, poisoned, images, config, seed=2)
    assert row["at"] == pytest.approx(expected, rel=1e-3)
