"""How much of an encoder's attention lies inside a square."""

import torch
from torch import Tensor

from distill_lib.distillation.losses.at import attention
from distill_lib.vision.triggers import Patch


def attention_maps(maps: Tensor) -> Tensor:
    """Where an encoder looks, as shares of its attention: (B, C, H, W) to (B, H, W), each image's sum 1.

    The AT loss's A(F) = sum_c |F_c|^2, scaled to the sum 1 instead of the norm 1; a dead map is 0 everywhere.
    """
    found = attention(maps.float())
    return (found / found.sum(1, keepdim=True).clamp_min(1e-12)).unflatten(1, maps.shape[-2:])


def share_inside(shares: Tensor, patch: Patch, side: int) -> Tensor:
    """Percent of the attention inside a square, (B,).

    A cell of the map stands for the pixels that it covers; one that lies partly inside counts by that part. What a cell
    *sees* is wider than what it covers, the more so the later the stage.

    Args:
        shares: (B, H, W), each image's sum 1.
        patch: The square, in pixels of the image.
        side: Of the image, in pixels.
    """
    rows = covered(patch.row, patch.size, shares.shape[-2], side)
    columns = covered(patch.column, patch.size, shares.shape[-1], side)
    return 100 * torch.einsum("bhw,h,w->b", shares, rows.to(shares), columns.to(shares))


def covered(start: int, length: int, cells: int, side: int) -> Tensor:
    """Which part of each of so many cells along one side lies between two pixels, (cells,)."""
    step = side / cells
    edges = torch.arange(cells, dtype=torch.float64) * step
    inside = (edges + step).clamp_max(start + length) - edges.clamp_min(start)
    return inside.clamp_min(0) / step
