"""Devices and precision by name."""

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.training.device import generator, resolve_device, resolve_precision


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_devices(gpus, name, count, expected):
    gpus(count)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 2)])
def test_a_gpu_that_is_not_there_is_named(gpus, name, count):
    gpus(count)
    with pytest.raises(UsageError, match=f"device '{name}' was asked for, but torch sees {count} CUDA devices"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cpu:", "cpu:0", "mps"])
def test_unknown_devices_are_named(gpus, name):
    gpus(4)
    with pytest.raises(UsageError, match=f"unknown device '{name}'; allowed: auto, cpu, cuda, cuda:<number>"):
        resolve_device(name)


def test_a_generator_is_its_seed_and_nothing_else():
    before = torch.get_rng_state()
    first, again, other = (torch.rand(4, generator=generator(seed, "cpu")) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["float32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_precision_asked_for_is_given(name, device):
    assert resolve_precision(name, torch.device(device)) == name


@pytest.mark.parametrize(
    ("device", "hardware", "expected"), [("cuda", False, "bf16"), ("cpu", True, "bf16"), ("cpu", False, "float32")]
)
def test_auto_is_bf16_where_the_hardware_multiplies_it(monkeypatch, device, hardware, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware, raising=False)
    assert resolve_precision("auto", torch.device(device)) == expected


def test_auto_without_knowledge_of_the_processor_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == "float32"


def test_unknown_precision_is_named():
    with pytest.raises(UsageError, match="unknown precision 'fp16'; allowed: auto, float32, bf16"):
        resolve_precision("fp16", torch.device("cpu"))
