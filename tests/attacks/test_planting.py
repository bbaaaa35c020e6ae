"""The curve of an attack on data: known answers, and that asking changes nothing."""

import pytest
import torch

from distill_lib.attacks.planting import planting
from distill_lib.vision.encoders import EncoderConfig, build_encoder
from distill_lib.vision.triggers import corner_patch
from tests.study.greys import TARGET, Reader, greys


def test_a_planted_backdoor_reads_minus_one_and_the_same_images_without_it_none():
    whole = greys("train", 3)
    measure = planting(Reader(), whole.images, whole.labels, TARGET, corner_patch(10))
    assert measure() == {"triggered": pytest.approx(-1), "untriggered": pytest.approx(0)}


def test_no_more_images_are_asked_about_than_said():
    whole, seen = greys("train", 30), []

    class Counting(Reader):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    planting(Counting(), whole.images, whole.labels, TARGET, corner_patch(10), count=7)()
    assert seen == [7, 7, 7]


def test_the_encoder_stays_as_it_was():
    encoder, whole = build_encoder(EncoderConfig(10, 4, 4), 0).train(), greys("train", 2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    planting(encoder, whole.images, whole.labels, TARGET, corner_patch(10))()
    assert encoder.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
