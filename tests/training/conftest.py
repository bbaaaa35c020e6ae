"""What the tests of every pre-training share."""

import pytest
import torch
from torch import nn

from distill_lib.training.loop import Watch
from distill_lib.vision.encoders import EncoderConfig, build_encoder


@pytest.fixture(scope="session")
def images():
    """32 images, each of a colour and a texture of its own."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(32, 3, 4, 4, generator=source)
    return (nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


@pytest.fixture
def small_encoder():
    """Builds encoders of a seed."""
    return lambda seed=0: build_encoder(EncoderConfig(10, 4, 4), seed)


@pytest.fixture
def resumes(images, small_encoder, tmp_path):
    """A pre-training killed at step 5 of 8 and resumed ends bit-equal to one that ran through."""

    def check(pretraining, config):
        def stop(step, *_):
            if step == 5:
                raise KeyboardInterrupt

        whole, resumed = small_encoder(), small_encoder()
        log = pretraining(whole, images, config, 3)
        with pytest.raises(KeyboardInterrupt):
            pretraining(small_encoder(), images, config, 3, Watch(stop, tmp_path / "c.pt", every_s=-1.0))
        assert pretraining(resumed, images, config, 3, Watch(checkpoint=tmp_path / "c.pt", every_s=-1.0)) == log
        state = resumed.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
        assert len(log) == 8

    return check
