"""Checkpoints are untrusted by nature: read without running anything, in bounded memory, or refused in one sentence."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError
from distill_lib.tools.purify.containers import check_archive, check_safetensors, file_size
from distill_lib.tools.purify.refusal import Refusal, shown

LARGEST = 4 * 2**30  # bytes of a file, and of the tensors that it unfolds to
MOST_TENSORS = 20_000
LEVELS = 3  # of dicts around the state dict
# Where training programs put the state dict beside their optimiser's state.
NESTS = ("state_dict", "model", "model_state_dict", "model_state")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: The file.
        sha256: Of its bytes, hex.
        tensors: The state dict, under the file's own names; copies in memory, finite.
        notes: What was done to find it, in words.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


def read(path: Path | str, largest: int = LARGEST) -> Checkpoint:
    """Read a checkpoint from anyone.

    Sizes are held against the file before tensors are read; torch's own files are walked through before
    `torch.load(weights_only=True)` sees them. There is no other way in: what these two refuse is refused.

    Args:
        path: A safetensors file, or what torch.save has written since torch 1.6.
        largest: Bytes of the file, and of its tensors.

    Raises:
        UsageError: If it is anything else, or its weights are not finite; one sentence that names the file.
    """
    path = Path(path)
    try:
        size = file_size(path, largest)
        if path.suffix.lower() not in READERS:
            raise Refusal(f"its suffix is {path.suffix!r}; allowed: {', '.join(READERS)}")
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        found, notes = _state_dict(READERS[path.suffix.lower()](path, size))
        _check(found, largest)
    except Refusal as reason:
        raise UsageError(f"checkpoint {str(path)!r} is refused: {reason}") from None
    except OSError as error:
        raise UsageError(f"checkpoint {str(path)!r} cannot be read: {os.strerror(error.errno or 5)}") from None
    # Copies: the file is mapped into memory, and may change or vanish.
    tensors = {name: each.detach().clone(memory_format=torch.contiguous_format) for name, each in found.items()}
    return Checkpoint(path, sha256, tensors, notes)


def _read_safetensors(path: Path, size: int) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_safetensors(path, size)
    try:
        return load_file(path)
    except SafetensorError:
        raise Refusal("its header contradicts itself; allowed: safetensors files") from None


def _read_archive(path: Path, size: int) -> Any:
    check_archive(path, size)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged files fail in many ways: RuntimeError, UnpicklingError, TypeError, ...
        raise Refusal(f"torch cannot read it ({type(error).__name__}); allowed: what torch.save writes") from None


READERS = {".safetensors": _read_safetensors, **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), _read_archive)}


def _state_dict(found: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The dict of tensors in what was loaded, and where it was."""
    notes: tuple[str, ...] = ()
    for _ in range(LEVELS):
        if not isinstance(found, dict):
            raise Refusal(f"it holds a {type(found).__name__}; allowed: a dict of tensors")
        found = dict(dict.items(found))  # an ordered dict of a stranger may have attributes in its methods' place
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return found, notes
        inside = [name for name in NESTS if isinstance(found.get(name), dict)]
        if len(inside) != 1:
            raise Refusal(
                f"it holds {'several state dicts' if inside else 'no state dict'}; "
                f"allowed: a dict of tensors, or one under one of the names {', '.join(NESTS)}"
            )
        notes += (f"the weights lie under {inside[0]!r}",)
        found = found[inside[0]]
    raise Refusal(f"its state dict lies deeper than {LEVELS} levels; allowed: that many")


def _check(tensors: Mapping[Any, Tensor], largest: int) -> None:
    """Names, kinds and sizes first, and values last: a tensor of a few bytes can be folded out to any size."""
    if len(tensors) > MOST_TENSORS:
        raise Refusal(f"it has {len(tensors):,} tensors; allowed: {MOST_TENSORS:,}")
    total = 0
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise Refusal(f"a tensor's name is {shown(name)}; allowed: text")
        _check_kind(name, tensor)
        total += tensor.numel() * tensor.element_size()
    if total > largest:
        raise Refusal(f"its tensors have {total:,} bytes; allowed: {largest:,}")
    for name, tensor in tensors.items():
        if tensor.dtype in FLOATS and not tensor.isfinite().all():
            raise Refusal(f"tensor {shown(name)} holds NaN or infinity; allowed: finite weights")


def _check_kind(name: str, tensor: Tensor) -> None:
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu" or tensor.dtype not in (*FLOATS, *WHOLES):
        raise Refusal(f"tensor {shown(name)} is {tensor.dtype}, {tensor.layout}; allowed: dense floats and integers")
    if not 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
        raise Refusal(f"tensor {shown(name)} is empty, or larger than what the file holds of it; allowed: neither")
