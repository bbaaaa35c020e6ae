"""Encoders and images small enough for tests."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from distill_lib.vision.encoders import EncoderConfig, build_encoder


def write_images(folder, count, size=(40, 36), seed=0):
    """Pictures of a few coloured stripes each, png and jpg in turns."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        picture = np.repeat(rng.integers(0, 256, (size[1], 4, 3), dtype=np.uint8), size[0] // 4, axis=1)
        Image.fromarray(picture).save(folder / f"{number:03}.{('png', 'jpg')[number % 2]}")


@pytest.fixture(scope="session", name="write_images")
def fixture_write_images():
    """Gives a function that fills a folder with images."""
    return write_images


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Twenty clean images."""
    place = tmp_path_factory.mktemp("images")
    write_images(place, 20)
    return place


@pytest.fixture(scope="session")
def own_weights():
    """The state dict of an encoder of the study."""
    encoder = build_encoder(EncoderConfig(10, 16, 2), 0)
    return {name: each.contiguous() for name, each in encoder.state_dict().items()}


@pytest.fixture(scope="session")
def own(own_weights, tmp_path_factory):
    """The file of an encoder of the study."""
    path = tmp_path_factory.mktemp("encoder") / "own.safetensors"
    save_file(own_weights, path)
    return path


@pytest.fixture(scope="session")
def resnet_weights():
    """The state dict of torchvision's smallest ResNet, with a head of ten classes."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(num_classes=10).state_dict()
