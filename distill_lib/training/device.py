"""Device and precision, decided once at the edge."""

import re

import torch

from distill_lib.errors import UsageError, choose


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` (or `cuda:1`) as a device.

    Raises:
        UsageError: If the name is none of these, or CUDA is asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", name, re.ASCII)
    if parts is None:
        raise UsageError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:<number>")
    if not parts[1] and int(parts[2] or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices; "
            "allowed here: auto, cpu"
        )
    return torch.device(name)


def generator(seed: int, device) -> torch.Generator:
    """A fresh random generator on the device."""
    return torch.Generator(device).manual_seed(seed)


def resolve_precision(name: str, device: torch.device) -> str:
    """`float32`, `bf16`, or `auto`: bf16 on a GPU and on processors that multiply it in hardware."""
    if name != "auto":
        return choose("precision", name, {"auto": name, "float32": name, "bf16": name})
    fast = device.type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return "bf16" if fast else "float32"
