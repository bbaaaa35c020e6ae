"""Checkpoints from which a killed training goes on to a result equal bit for bit."""

import os
from pathlib import Path

import torch


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` (tensors, numbers, nested dicts) so that `path` always holds a whole checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict | None:
    """The state saved at `path`; None where there is none or it does not read as a checkpoint."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file fails in many ways: RuntimeError, UnpicklingError, KeyError, ...
        return None
