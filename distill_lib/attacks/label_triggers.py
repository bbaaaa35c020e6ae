"""The ten triggers of the supervised attacks, at 32 x 32 pixels: functions from uint8 images to uint8 images.

Places and magnitudes are published (arXiv 2306.02368 and its benchmark). The pictures carry no licence, so every
picture here is drawn anew by integer arithmetic, the same on every platform [ours]. The facts name no colours for
`trojan_3x3`, `trojan_8x8`, `trojan_wm`, `l0_inv`, `l2_inv` and `blend`, nor the nine columns of `l0_inv`, nor how a
mixture is rounded (to the nearest): these are ours [ours].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from distill_lib.errors import UsageError, choose

SIZE = 32
TENTHS = 2  # of a mixed picture; the image keeps eight
L0_COLUMNS = (2, 5, 9, 12, 15, 19, 22, 26, 29)
WATERMARK = 90  # brightness added by the watermark
FAINT_MOST, FAINT_MEAN = 68, 9  # of `l2_inv`, published


class Picture(NamedTuple):
    """What a trigger draws.

    Attributes:
        values: int32 (3, 32, 32), 0..255.
        mask: bool (1, 32, 32), where it acts.
    """

    values: Tensor
    mask: Tensor


class Recipe(NamedTuple):
    """A trigger's row in the registry: how it joins the image, what it draws, how its placebo is made."""

    join: Callable[[Tensor, Picture], Tensor]
    draw: Callable[[], Picture]
    control: Callable[[Picture], Picture]
    clean_label: bool = False


@dataclass(frozen=True)
class LabelTrigger:
    """One of the ten triggers, by name.

    Attributes:
        name: In `RECIPES`.
        control: Whether it is the placebo: as large a change, but another one.
    """

    name: str = "badnet_grid"
    control: bool = False

    def __post_init__(self):
        choose("trigger", self.name, RECIPES)

    def __call__(self, images: Tensor) -> Tensor:
        """Triggered copy of images (N, 3, 32, 32), uint8.

        Raises:
            UsageError: If the images are not of 32 x 32 pixels.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[-3:]) != (3, SIZE, SIZE):
            raise UsageError(
                f"trigger {self.name!r} does not fit images of {images.dtype} and shape {tuple(images.shape)}; "
                f"allowed: uint8 (N, 3, {SIZE}, {SIZE})"
            )
        picture = Picture(*(each.to(images.device) for each in self.picture()))
        joined = RECIPES[self.name].join(images.int(), picture).clamp_(0, 255).to(torch.uint8)
        return torch.where(picture.mask, joined, images)

    def picture(self) -> Picture:
        """The picture drawn: shared, so do not write into it."""
        return _picture(self.name, self.control)

    @property
    def clean_label(self) -> bool:
        """Whether poisoned images keep their label, and are of the target class alone."""
        return RECIPES[self.name].clean_label

    def placebo(self) -> "LabelTrigger":
        """The control trigger [ours].

        What replaces pixels: equal area at another place, in blue. What is added or mixed in: the same picture turned
        by 180 degrees with its colours exchanged, so equal in magnitude; the stripes of `sig` run the other way.
        """
        return replace(self, control=not self.control)


@cache
def _picture(name: str, control: bool) -> Picture:
    recipe = RECIPES[name]
    picture = recipe.draw()
    return recipe.control(picture) if control else picture


# ---- how a picture joins an image: int32 (N, 3, 32, 32) -------------------------------------------------------------


def stamped(images: Tensor, picture: Picture) -> Tensor:
    """The picture alone, inside its mask."""
    return picture.values.expand_as(images).clone()


def added(images: Tensor, picture: Picture) -> Tensor:
    """Image plus picture, to be clipped."""
    return images + picture.values


def mixed(images: Tensor, picture: Picture) -> Tensor:
    """0.8 image + 0.2 picture, rounded to the nearest: whole numbers, so exact on every device."""
    return ((10 - TENTHS) * images + TENTHS * picture.values + 5) // 10


# ---- the pictures ---------------------------------------------------------------------------------------------------


def _plane() -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, int32 (32, 1) and (1, 32)."""
    line = torch.arange(SIZE, dtype=torch.int32)
    return line[:, None], line[None]


def _block(values, top: int, left: int) -> Picture:
    """A small picture, grey (h, w) or coloured (3, h, w), at a place."""
    small = torch.as_tensor(values, dtype=torch.int32)
    height, width = small.shape[-2:]
    picture = Picture(torch.zeros(3, SIZE, SIZE, dtype=torch.int32), torch.zeros(1, SIZE, SIZE, dtype=torch.bool))
    picture.values[:, top : top + height, left : left + width] = small
    picture.mask[:, top : top + height, left : left + width] = True
    return picture


def _everywhere(values: Tensor) -> Picture:
    return Picture(values.int().expand(3, SIZE, SIZE).contiguous(), torch.ones(1, SIZE, SIZE, dtype=torch.bool))


def badnet_grid() -> Picture:
    """A chequered 3 x 3 corner: 255 at (31,31), (31,29), (30,30), (29,31), 0 elsewhere in the block."""
    return _block([[0, 0, 255], [0, 255, 0], [255, 0, 255]], 29, 29)


def badnet_square() -> Picture:
    """White, rows and columns 27 to 30."""
    return _block(torch.full((4, 4), 255), 27, 27)


def corners() -> Picture:
    """The grid in all four corners, in each as it stands in the lower right one."""
    whole = badnet_grid()
    at = [Picture(*(each.roll(shift, (1, 2)) for each in whole)) for shift in ((0, 0), (3, 0), (0, 3), (3, 3))]
    return Picture(sum(each.values for each in at), torch.stack([each.mask for each in at]).any(0))


def stripes() -> Picture:
    """Row j is trunc(20 sin(0.79984 j)) wrapped to uint8: negative values turn bright."""
    rows = [math.trunc(20 * math.sin(0.79984 * j)) % 256 for j in range(SIZE)]
    return _everywhere(torch.tensor(rows, dtype=torch.int32)[None, :, None].expand(3, SIZE, SIZE))


def poster() -> Picture:
    """A colourful picture of rings, rays and a chequered floor, to be mixed in whole."""
    row, column = _plane()
    rings = ((row - 11) ** 2 + (column - 12) ** 2) // 23 % 2
    rays = (3 * row + 5 * column) // 16 % 2
    floor = ((row // 4 + column // 4) % 2) * (row >= 22)
    red = 60 + 170 * rings * (row < 22) + 120 * floor
    green = 40 + 6 * row + 60 * rays * (row < 22)
    blue = 235 - 5 * column - 110 * floor
    return _everywhere(torch.stack([plane.expand(SIZE, SIZE) for plane in (red, green, blue)]).clamp(0, 255))


def watermark() -> Picture:
    """A ring, a bar across it and a row of letters' strokes below, spread over the image."""
    row, column = _plane()
    distance = (row - 12) ** 2 + (column - 16) ** 2
    ring = (distance >= 49) & (distance <= 90)
    bar = ((row + column - 28).abs() <= 1) & (row >= 1) & (row <= 24)
    strokes = (row >= 25) & (row <= 30) & (column >= 2) & (column <= 30) & (column % 4 <= 1)
    strokes = strokes | ((row == 27) & (column >= 2) & (column <= 22) & (column % 8 <= 5))
    mark = (ring | bar | strokes).int() * WATERMARK
    tint = torch.tensor([10, 9, 7], dtype=torch.int32)[:, None, None]
    return _everywhere(mark * tint // 10)


def bright_pixels() -> Picture:
    """Nine bright pixels at rows and columns 25 to 27, each of a colour of its own."""
    colour = torch.tensor([[230, 90, 200], [110, 240, 80], [210, 120, 250]], dtype=torch.int32)
    return _block(torch.stack([colour, colour.flip(1), colour.T]), 25, 25)


def mosaic() -> Picture:
    """A mosaic at rows and columns 21 to 29, published as `8x8`."""
    row, column = torch.arange(9)[:, None], torch.arange(9)[None]
    colours = ((row * 67 + column * 29) % 200 + 55, (row * 31 + column * 83) % 220, row * column * 3)
    return _block(torch.stack(colours), 21, 21)


def bottom_pixels() -> Picture:
    """Nine pixels of the bottom row, in pure colours in turn."""
    picture = Picture(torch.zeros(3, SIZE, SIZE, dtype=torch.int32), torch.zeros(1, SIZE, SIZE, dtype=torch.bool))
    for number, column in enumerate(L0_COLUMNS):
        picture.values[number % 3, SIZE - 1, column] = 255
        picture.mask[:, SIZE - 1, column] = True
    return picture


def faint() -> Picture:
    """A faint pattern over the whole image, at most 68, 9 on average: few strong pixels among many weak ones."""
    row, column = _plane()
    channel = torch.arange(3, dtype=torch.int64)[:, None, None]
    place = (channel * SIZE + row) * SIZE + column
    # 1,021 is prime: the squares' remainders look random, and products of whole numbers are so everywhere.
    rank = (place * place * 7 + place * 389 + 11) % 1021
    values = FAINT_MOST * (rank**3 // 1020**2) ** 2 // 1020**2  # the sixth power, without leaving 64 bits
    # Weak pixels are raised one by one until the mean is met exactly.
    short = FAINT_MEAN * values.numel() - int(values.sum())
    order = ((place * 2654435761) % 2**32).flatten().argsort(stable=True)
    weak = order[values.flatten()[order] < FAINT_MOST // 2]
    step = 1 if short > 0 else -1
    flat = values.flatten()
    while short:
        rows = weak[(flat[weak] + step >= 0)][: abs(short)]
        flat[rows] += step
        short -= step * len(rows)
    return _everywhere(flat.view(3, SIZE, SIZE))


# ---- their placebos -------------------------------------------------------------------------------------------------


def blue_elsewhere(picture: Picture) -> Picture:
    """Equal area, turned by 180 degrees into the opposite corner or row; blue."""
    mask = picture.mask.flip(1, 2)
    return Picture(_blue(mask), mask)


def blue_at_the_sides(picture: Picture) -> Picture:
    """Equal area, moved from the corners to the middle of the left and right side; blue."""
    mask = picture.mask.roll(SIZE // 2, 1)
    return Picture(_blue(mask), mask)


def turned(picture: Picture) -> Picture:
    """The same picture turned by 180 degrees, its colour channels exchanged."""
    return Picture(picture.values.flip(1, 2).roll(1, 0), picture.mask.flip(1, 2))


def other_way(picture: Picture) -> Picture:
    """Rows become columns."""
    return Picture(picture.values.transpose(1, 2).contiguous(), picture.mask.transpose(1, 2).contiguous())


def _blue(mask: Tensor) -> Tensor:
    return mask.int() * torch.tensor([0, 0, 255], dtype=torch.int32)[:, None, None]


RECIPES: dict[str, Recipe] = {
    "badnet_grid": Recipe(stamped, badnet_grid, blue_elsewhere),
    "badnet_sq": Recipe(stamped, badnet_square, blue_elsewhere),
    "sig": Recipe(mixed, stripes, other_way, clean_label=True),
    "blend": Recipe(mixed, poster, turned),
    "trojan_wm": Recipe(added, watermark, turned),
    "trojan_3x3": Recipe(added, bright_pixels, turned),
    "trojan_8x8": Recipe(added, mosaic, turned),
    "l0_inv": Recipe(stamped, bottom_pixels, blue_elsewhere),
    "l2_inv": Recipe(added, faint, turned),
    "cl": Recipe(stamped, corners, blue_at_the_sides, clean_label=True),
}
TRIGGERS: dict[str, LabelTrigger] = {name: LabelTrigger(name) for name in RECIPES}
