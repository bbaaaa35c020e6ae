import pytest
import torch

from distill_lib.tools.bench.setup import Setup
from distill_lib.vision.encoders import EncoderConfig


@pytest.fixture
def tiny() -> Setup:
    """A bench of seconds: 32 images, batches of 8.

    Not narrower: with fewer than 16 channels, float32 and two threads, torch 2.15 dies in a convolution's backward pass
    (seen on an AMD EPYC, Zen 4).
    """
    sizes = {"simclr_batch": 8, "badencoder_batch": 8, "distillation_batch": 8, "head_batch": 8}
    encoder = EncoderConfig(10, 16, 2)
    return Setup(torch.device("cpu"), "float32", encoder, **sizes, images=32, flatness=(16, 32), matrix=64)
