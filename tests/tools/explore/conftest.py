"""A small explorer: random images, random encoders, no study."""

import pytest
import torch
from torch.nn.functional import normalize

from distill_lib.evaluation.probes import Head, HeadConfig
from distill_lib.tools.explore import Bank, Explorer, Subject
from distill_lib.vision.encoders import EncoderConfig, build_encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Patch

ENCODERS = ("clean", "attacked", "a / b / c", "finetune")


@pytest.fixture(scope="session")
def bank() -> Bank:
    """24 random images of four classes; `c` is the target."""
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Bank(images, torch.arange(24) % 4, ("a", "b <i>", "c", "d"), 2, "made up")


def make_subject(bank: Bank, seed: int) -> Subject:
    """A random encoder and head, and a map of random points: the bank's, and six triggered."""
    encoder = build_encoder(EncoderConfig(10, 4, 2), seed).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Head(encoder.dimension, len(bank.classes), HeadConfig()).eval()
        points = torch.randn(len(bank.images) + 6, 2)
    features = normalize(extract(encoder, bank.images), dim=1)
    triggered = normalize(extract(encoder, bank.images[:6], transform=Patch()), dim=1)
    return Subject(encoder, head, features, torch.cat([features, triggered]), points)


@pytest.fixture
def explorer(bank) -> Explorer:
    """Four encoders, none of them ready."""
    sources = {name: lambda seed=seed: make_subject(bank, seed) for seed, name in enumerate(ENCODERS)}
    return Explorer(bank, sources, Patch())


@pytest.fixture
def encoded(explorer):
    """How many images each forward pass of an encoder had, in order; the first three encoders are made ready."""
    counts = []
    for name in ENCODERS[:3]:
        encoder = explorer.subject(name).encoder
        encoder.register_forward_pre_hook(lambda module, inputs: counts.append(len(inputs[0])))
    return counts
