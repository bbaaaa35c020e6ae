import pytest
import torch

from distill_lib.tools.bench.setup import DataFree, Setup
from distill_lib.vision.encoders import EncoderConfig
from distill_lib.vision.wide_resnet import WideResNetConfig


@pytest.fixture
def tiny() -> Setup:
    """A bench of seconds: 32 images, batches of 8.

    Not narrower: with fewer than 16 channels, float32 and two threads, torch 2.15 dies in a convolution's backward pass
    (seen on an AMD EPYC, Zen 4).
    """
    sizes = {"simclr_batch": 8, "badencoder_batch": 8, "distillation_batch": 8, "head_batch": 8}
    encoder = EncoderConfig(10, 16, 2)
    network = WideResNetConfig(10, base=16, stem_stride=4)
    data_free = DataFree(network, network, (16, 16), 8, 8, 8, 8, (1, 2))
    sizes |= {"images": 32, "flatness": (16, 32), "matrix": 64}
    return Setup(torch.device("cpu"), "float32", encoder, **sizes, data_free=data_free)
