import pytest
import torch

from distill_lib.tools.bench.setup import Setup
from distill_lib.vision.encoders import EncoderConfig


@pytest.fixture
def tiny() -> Setup:
    """A bench of seconds: a narrow encoder, 32 images, batches of 8."""
    sizes = {"simclr_batch": 8, "badencoder_batch": 8, "distillation_batch": 8, "head_batch": 8}
    encoder = EncoderConfig(10, 4, 2)
    return Setup(torch.device("cpu"), "float32", encoder, **sizes, images=32, flatness=(16, 32), matrix=64)
