"""Features of an encoder, whole or by hook path, without rewriting the model."""

from collections.abc import Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distill_lib.vision.encoders import STAGES


def to_unit(images: Tensor) -> Tensor:
    """uint8 images (B, 3, H, W) as float32 in [0, 1], channels last in memory."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


@contextmanager
def hooked(model: nn.Module, paths: Sequence[str]):
    """While open, yields a dict that each forward fills with the outputs of the modules at `paths`."""
    maps: dict[str, Tensor] = {}
    modules = [(path, model.get_submodule(path)) for path in paths]  # an unknown path fails before any hook is set
    handles = [
        module.register_forward_hook(lambda _m, _i, out, path=path: maps.__setitem__(path, out))
        for path, module in modules
    ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def collect(encoder: nn.Module, images: Tensor, paths: Sequence[str] = STAGES) -> tuple[Tensor, dict[str, Tensor]]:
    """Output (B, D) and the feature maps {path: (B, C, H, W)} of one forward pass."""
    with hooked(encoder, paths) as maps:
        output = encoder(images)
    return output, dict(maps)


@torch.no_grad()
def extract(encoder: nn.Module, images: Tensor, batch: int = 512, transform=None) -> Tensor:
    """Features (N, D), float32, of uint8 images (N, 3, H, W), in eval mode.

    Args:
        encoder: Any module from images in [0, 1] to (B, D).
        images: uint8, on any device; batches go to the encoder's.
        batch: Images a forward.
        transform: Optional function from uint8 to uint8 images (a trigger) applied batch by batch.
    """
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    parts = []
    try:
        for start in range(0, len(images), batch):
            part = images[start : start + batch].to(device)
            parts.append(encoder(to_unit(transform(part) if transform else part)).float())
    finally:
        encoder.train(was_training)
    return torch.cat(parts)
