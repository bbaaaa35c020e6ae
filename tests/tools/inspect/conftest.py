"""A small encoder of the study, as a file, and a folder of pictures."""

import pytest
import torch
from PIL import Image

from distill_lib.vision.encoders import EncoderConfig, build_encoder


def pixels(count, seed=0, side=32):
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, (side, side)) * 255).to(torch.uint8)


@pytest.fixture(scope="session")
def encoder():
    """Of random weights, with statistics of its own; not to be changed."""
    network = build_encoder(EncoderConfig(10, 16, 4), 0)
    for _ in range(3):
        network(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(5)))
    return network.eval()


@pytest.fixture(scope="session")
def images():
    return pixels(40)


@pytest.fixture(scope="session")
def weights(encoder, tmp_path_factory):
    """The encoder's file."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("encoder") / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Twenty pictures of 40 pixels."""
    path = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(pixels(20, 1, 40)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / f"{number:02d}.png")
    return path
