"""What a distillation loss sees of an encoder, and the one place where its inputs are made comparable."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Representation(NamedTuple):
    """One encoder's view of a batch.

    Attributes:
        output: (B, D), the encoder's output, its last representation.
        maps: Feature map (B, C, H, W) after each stage, keyed by stage.
    """

    output: Tensor
    maps: Mapping[str, Tensor]


def output_pair(student: Representation, teacher: Representation) -> tuple[Tensor, Tensor]:
    """Both outputs (B, D), ready for a loss: see `map_pairs`."""
    return _pair("output", student.output, teacher.output, 2)


def map_pairs(student: Representation, teacher: Representation, stages: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    """Both maps (B, C, H, W) of each stage: float32 (float64 stays), the teacher's without gradients.

    Raises:
        ValueError: If a stage has no map, or student and teacher differ in shape; the shapes are named.
    """
    return [_pair(stage, _map(student, stage), _map(teacher, stage), 4) for stage in stages]


def _map(representation: Representation, stage: str) -> Tensor:
    if stage not in representation.maps:
        raise ValueError(f"no map of {stage!r}; there are: {', '.join(representation.maps) or 'none'}")
    return representation.maps[stage]


def _pair(what: str, student: Tensor, teacher: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    if student.shape != teacher.shape or student.ndim != dimensions:
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} "
            f"must have one shape of {dimensions} dimensions"
        )
    return _full(student), _full(teacher.detach())


def _full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
