"""Trigger inversion in feature space: the smallest patch that pulls many images to one point.

DECREE (Feng et al., CVPR 2023, arXiv 2303.15180): a backdoored encoder sends whatever carries the trigger to one
place, so that a small patch makes the features of different images alike; a clean encoder asks for a large one. Neither
labels nor a head are needed. The published score is the L1 norm of the mask over its largest value (PL1-Norm), small
ones are suspicious. The release (facts, as far as they are ours too): one mask for all channels, both mask and pattern
squashed into their range, cosine over all pairs of a batch, Adam, a norm whose weight is multiplied by 5 after more
than 5 steps in a row above the cosine .99, and divided by 5 after as many below; the smallest norm above .99 counts.
What differs here is said beside each setting.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from distill_lib.errors import UsageError
from distill_lib.training.device import generator
from distill_lib.training.loop import Schedule, Watch, train
from distill_lib.vision.features import extract, to_unit

FEWEST = 16  # images: of fewer, alike features say nothing
_EDGE = 1e-4  # how near to 0 and 1 a mask or pattern starts: beyond, a squashed parameter has no gradient
_INSIDE, _OUTSIDE, _SOFT = 0.9, 0.02, 0.05  # a mask that starts as a square, and how far its colour is from 0 and 1


@dataclass(frozen=True)
class InversionConfig:
    """Settings of the search.

    Small encoders are fooled by a few scattered pixels, clean ones as cheaply as attacked ones: on exploration seeds
    a search over pixels, 100 to 200 steps long, did not tell three clean from four attacked ones. Two things are
    therefore ours: `cells` takes away the freedom that makes such noise cheap, and `starts` begins where a solid
    square already moves the features most, since from a random start the coarse search ends in the wrong place.
    `cells = 0, starts = 0` is the released search.

    Attributes:
        steps: Of Adam, with torch's betas; the release has .5, .9, and stops early.
        batch: Images a step; 128 or 256 in the release, whose encoders are larger.
        lr: Falls to 0 on a cosine; .5, .1, .05 in the release.
        target: Mean cosine over pairs that is to be held; .99 in the release, which the planted trigger itself hardly
            reaches in encoders this small.
        weight: Of the mask's relative norm at the start; the release's 1e-3 of the sum over 32 x 32 x 3 is 3.
        factor: What the weight is multiplied or divided by; 5 in the release.
        patience: Steps in a row above (below) the target that are not yet answered; 5 in the release.
        cells: Mask and pattern are made of so many squares a side; 0: of pixels.
        starts: Searches that begin at a solid square, each at another of the best; one more has a random start, whose
            large mask holds the target from the first step on, so that there is always a size.
        scanned: Images on which the solid squares are compared.
    """

    steps: int = 120
    batch: int = 64
    lr: float = 0.2
    target: float = 0.95
    weight: float = 3.0
    factor: float = 1.5
    patience: int = 2
    cells: int = 8
    starts: int = 2
    scanned: int = 24

    def __post_init__(self):
        counts = {"steps": 1, "batch": 2, "scanned": 2, "patience": 0, "cells": 0, "starts": 0}
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise UsageError(f"inversion.{name} is {getattr(self, name)}; allowed: {least} or more")
        if not 0 < self.target < 1:
            raise UsageError(f"inversion.target is {self.target}; allowed: a cosine above 0 and below 1")
        if not (self.lr > 0 and self.weight > 0 and self.factor > 1 and math.isfinite(self.lr * self.weight)):
            raise UsageError(
                f"inversion: lr {self.lr}, weight {self.weight}, factor {self.factor} are impossible; "
                "allowed: lr and weight above 0, factor above 1"
            )


@dataclass(frozen=True, eq=False)
class SoftTrigger:
    """A pattern blended into images: a function as a trigger is, but found, not chosen, and without a placebo.

    Attributes:
        mask: float32 (H, W) in [0, 1]: 1 replaces the pixel, 0 leaves it.
        pattern: float32 (3, H, W) in [0, 1].
    """

    mask: Tensor
    pattern: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Stamped copy of images (N, 3, H, W), uint8: what is measured can be stored as an image."""
        mask, pattern = self.mask.to(images.device), self.pattern.to(images.device)
        return (images.float() * (1 - mask) + 255 * pattern * mask).round_().clamp_(0, 255).to(torch.uint8)

    @property
    def size(self) -> float:
        """Relative L1 norm of the mask (PL1-Norm): 0 is no trigger, 1 the whole image."""
        return float(self.mask.mean())


@dataclass(frozen=True, eq=False)
class Inversion:
    """What the search found.

    Attributes:
        trigger: The smallest that held the target; where none did, the one whose images were most alike.
        size: Its relative norm; 1 where the target was never held, as a mask of 1 makes all images the same.
        similarity: Mean cosine over pairs of all images with the trigger, rounded to pixels.
        clean_similarity: The same without it.
        reached: Whether the target was ever held.
        log: Rows of step, learning rate and the terms.
    """

    trigger: SoftTrigger
    size: float
    similarity: float
    clean_similarity: float
    reached: bool
    log: list[dict[str, float]]


def invert(
    encoder: nn.Module,
    images: Tensor,
    config: InversionConfig | None = None,
    seed: int = 0,
    watch: Callable[[], Watch] = Watch,
) -> Inversion:
    """Look for the smallest trigger of an encoder, which is left as it is.

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: Clean images, uint8 (N, 3, H, W).
        config: Settings.
        seed: Of start and order.
        watch: Makes the reports of each search. Its checkpoint is not used: a search takes seconds, and what it keeps
            beside its weights (the smallest trigger so far) would not be in it.

    Raises:
        UsageError: If there are fewer than 16 images.
    """
    config = config or InversionConfig()
    if len(images) < FEWEST:
        raise UsageError(f"{len(images)} images are too few to look for a trigger; allowed: {FEWEST} or more")
    frozen = frozen_copy(encoder)
    images = images.to(next(frozen.parameters()).device)
    squares = [None, *(scan(frozen, images, config, seed)[: config.starts] if config.starts else [])]
    found = [_search(frozen, images, config, seed + number, square, watch()) for number, square in enumerate(squares)]
    best, log = min(found, key=lambda pair: pair[0].rank)
    trigger = best.kept
    alike = [float(similarity(extract(frozen, images, transform=each))) for each in (trigger, None)]
    return Inversion(trigger, trigger.size if best.reached else 1.0, *alike, best.reached, log)


def similarity(features: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows of (N, D): 1 where all point one way.

    The sum over all pairs is the squared length of the sum of the unit vectors.
    """
    units = normalize(features.float(), dim=1)
    count = len(units)
    return (units.sum(0).square().sum() - units.square().sum()) / (count * (count - 1))


def frozen_copy(encoder: nn.Module) -> nn.Module:
    """A copy in eval mode that no gradient reaches: whatever is searched, the encoder itself stays as it is."""
    return deepcopy(encoder).eval().requires_grad_(False)


# ---- where to start -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Square:
    """A solid square on every image.

    Attributes:
        row: Its top, in pixels.
        column: Its left.
        side: In pixels.
        colour: Red, green, blue, 0 or 1 each.
        alike: Mean cosine over pairs of images with it.
    """

    row: int
    column: int
    side: int
    colour: tuple[float, float, float]
    alike: float

    def paint(self, images: Tensor) -> Tensor:
        """Painted copy of images, float (B, 3, H, W) in [0, 1]."""
        painted = images.clone()
        colour = images.new_tensor(self.colour).view(3, 1, 1)
        painted[..., self.row : self.row + self.side, self.column : self.column + self.side] = colour
        return painted


@torch.no_grad()
def scan(encoder: nn.Module, images: Tensor, config: InversionConfig, seed: int = 0) -> list[Square]:
    """Solid squares in the colour cube's corners all over the image, those that make features most alike first.

    Sides are a quarter and three eighths of the image, places an eighth apart. Of squares that share a pixel and a side
    only the best is kept, so that several starts are several places.

    Args:
        encoder: From images in [0, 1] to (B, D), in eval mode.
        images: uint8 (N, 3, H, W), on the encoder's device.
        config: How many of them are used.
        seed: Of their choice.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: config.scanned]
    few = to_unit(images[order.to(images.device)])
    height, width = few.shape[-2:]
    step, found = max(1, min(height, width) // 8), []
    for side in (2 * step, 3 * step):
        for row, column in product(range(0, height - side + 1, step), range(0, width - side + 1, step)):
            for colour in product((0.0, 1.0), repeat=3):
                square = Square(row, column, side, colour, 0.0)
                found.append(replace(square, alike=float(similarity(encoder(square.paint(few))))))
    return _apart(sorted(found, key=lambda square: -square.alike))


def _apart(squares: list[Square]) -> list[Square]:
    """Those that overlap no better one of their side."""
    kept: list[Square] = []
    for one in squares:
        near = (max(abs(one.row - each.row), abs(one.column - each.column)) < one.side for each in kept
                if each.side == one.side)  # fmt: skip
        if not any(near):
            kept.append(one)
    return kept


# ---- the search -----------------------------------------------------------------------------------------------------


class _Painter(nn.Module):
    """Mask and pattern as parameters without bounds; a sigmoid brings them into [0, 1].

    Args:
        shape: (3, H, W).
        cells: Squares a side that both are made of; 0: pixels.
        source: Draws the start, uniform in [0, 1] as in the release.
        square: Where the start is one and its colour, for images of the shape.
        mask: Fixed, float (H, W); None: to be searched.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        cells: int,
        source: Generator,
        square: Square | None = None,
        mask: Tensor | None = None,
    ):
        super().__init__()
        self.sides, self.fixed = shape[1:], mask
        grid = (cells, cells) if cells else self.sides
        start = torch.rand((4, *grid), generator=source, device=source.device)
        if square is not None:
            start = _started(start, square, shape)
        logits = start.clamp(_EDGE, 1 - _EDGE).logit()
        if mask is None:
            self.mask_logits = nn.Parameter(logits[0])
        self.pattern_logits = nn.Parameter(logits[1:])

    def mask(self) -> Tensor:
        return self._grown(self.mask_logits[None].sigmoid())[0] if self.fixed is None else self.fixed

    def pattern(self) -> Tensor:
        return self._grown(self.pattern_logits.sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        """Painted images, float (B, 3, H, W) in [0, 1]."""
        mask = self.mask()
        return images * (1 - mask) + self.pattern() * mask

    def trigger(self) -> SoftTrigger:
        return SoftTrigger(self.mask().detach().clone(), self.pattern().detach().clone())

    def _grown(self, cells: Tensor) -> Tensor:
        """(C, cells, cells) as (C, H, W); a weighted mean of cells, so that it stays in [0, 1]."""
        if cells.shape[1:] == self.sides:
            return cells
        return interpolate(cells[None], self.sides, mode="bilinear", align_corners=False)[0]


def _started(start: Tensor, square: Square, shape: tuple[int, int, int]) -> Tensor:
    """A start (4, h, w), mask first, with the square in it; outside, the mask is nearly 0."""
    inside = torch.zeros(shape[1:])
    inside[square.row : square.row + square.side, square.column : square.column + square.side] = 1
    inside = adaptive_avg_pool2d(inside[None], start.shape[1:])[0].to(start.device)
    colour = start.new_tensor(square.colour).view(3, 1, 1)
    pattern = colour * inside + start[1:] * (1 - inside)
    return torch.cat([(_OUTSIDE + (_INSIDE - _OUTSIDE) * inside)[None], _SOFT + (1 - 2 * _SOFT) * pattern])


class _Best:
    """Keeps the smallest mask that held the target, and the most alike as long as none has."""

    def __init__(self, painter: _Painter):
        self.painter, self.reached, self.rank, self.kept = painter, False, (2, 0.0), None

    def offer(self, alike: float, size: float, held: bool) -> None:
        rank = (0, size) if held else (1, -alike)
        if rank < self.rank:
            self.rank, self.reached, self.kept = rank, held, self.painter.trigger()


class _Weight:
    """Weighs the norm: more while the target is held, less while it is missed."""

    def __init__(self, config: InversionConfig):
        self.config, self.value, self.held, self.row = config, config.weight, None, 0

    def hear(self, held: bool) -> None:
        self.row = self.row + 1 if held == self.held else 1
        self.held = held
        if self.row > self.config.patience:
            self.value *= self.config.factor if held else 1 / self.config.factor
            self.row = 0


def _search(
    encoder: nn.Module, images: Tensor, config: InversionConfig, seed: int, square: Square | None, watch: Watch
) -> tuple[_Best, list[dict[str, float]]]:
    painter = _Painter(tuple(images.shape[1:]), config.cells, generator(seed, images.device), square)
    best, weight = _Best(painter), _Weight(config)

    def objective(rows: Tensor, source: Generator) -> dict[str, Tensor]:
        alike = similarity(encoder(painter(to_unit(images[rows]))))
        size, held = painter.mask().mean(), float(alike.detach()) > config.target
        best.offer(float(alike.detach()), float(size.detach()), held)
        terms = {"alike": -alike, "size": weight.value * size}
        weight.hear(held)
        return terms

    schedule = Schedule(config.steps, config.batch, "adam", config.lr, weight_decay=0.0, decay="cosine")
    return best, train(painter, objective, len(images), schedule, seed, replace(watch, checkpoint=None))


# ---- a trigger with a known place, towards a known point ------------------------------------------------------------


@dataclass(frozen=True)
class AimConfig:
    """Settings of `aim` [ours].

    Attributes:
        steps: Of Adam.
        batch: Images a step.
        lr: Falls to 0 on a cosine.
    """

    steps: int = 200
    batch: int = 64
    lr: float = 0.5


def aim(
    encoder: nn.Module,
    images: Tensor,
    mask: Tensor,
    reference: Tensor,
    config: AimConfig | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> SoftTrigger:
    """Look for the pattern under a mask that brings images nearest to a reference; the encoder is left as it is.

    Args:
        encoder: From images in [0, 1] to (B, D).
        images: Clean images, uint8 (N, 3, H, W).
        mask: float (H, W) in [0, 1], fixed: the place of the trigger that was planted.
        reference: The image whose features are aimed at, uint8 (1, 3, H, W).
        config: Settings.
        seed: Of start and order.
        watch: Reports.
    """
    config, frozen = config or AimConfig(), frozen_copy(encoder)
    images = images.to(next(frozen.parameters()).device)
    point = normalize(extract(frozen, reference), dim=1)
    mask = mask.to(images.device, torch.float32)
    painter = _Painter(tuple(images.shape[1:]), 0, generator(seed, images.device), mask=mask)

    def objective(rows: Tensor, source: Generator) -> dict[str, Tensor]:
        features = normalize(frozen(painter(to_unit(images[rows]))).float(), dim=1)
        return {"away": -(features * point).sum(1).mean()}

    schedule = Schedule(config.steps, config.batch, "adam", config.lr, weight_decay=0.0, decay="cosine")
    train(painter, objective, len(images), schedule, seed, watch)
    return painter.trigger()
