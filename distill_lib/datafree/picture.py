"""One picture of our own making, and the patches of it that stand for out-of-distribution images.

The publication (after Asano and Saeed) takes 50,000 augmented 32-pixel patches of a single photograph. Ours is drawn
[ours]: "dead leaves", discs, boxes and stripes of all sizes that cover one another, which share with photographs edges,
occlusion and detail on every scale, and nothing with any class.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from distill_lib.errors import UsageError
from distill_lib.vision.augment import Augmentation

CHUNK = 2048  # patches cut at a time
MARK = 3  # side of a mark, pixels


@dataclass(frozen=True)
class PictureConfig:
    """The picture; everything here is ours [ours].

    Attributes:
        size: Side in pixels.
        leaves: Shapes drawn one over the other; 8,000 of these sizes cover 512 x 512.
        smallest: Least radius of a shape, in pixels.
        largest: Largest radius.
        noise: Amplitude of the pixel noise, of 255.
        contrast: Factor on what is light and dark around the middle grey: image sets differ in it, and a student whose
            batch norms have seen none of their contrast reads them badly.
        tone: Factor on the colours' distance from grey.
        marks: Marks of 3 x 3 pixels, each black or white by chance, such as letters, glints and gravel are in a
            photograph: without detail this fine no patch ever wakes a small trigger's detector.
        spared: Marks that the picture must not show, and neither their mirror images: nine pixels row by row, `1`
            white, `0` black. Of 512 marks one is any given trigger of 3 x 3 pixels, and a picture that shows the
            trigger would prove nothing. They are drawn anew, and broken where overlapping marks form them together.
        seed: Of all shapes: another seed, another picture.
    """

    size: int = 512
    leaves: int = 8000
    smallest: float = 3.0
    largest: float = 90.0
    noise: float = 6.0
    contrast: float = 1.0
    tone: float = 1.0
    marks: int = 0
    spared: tuple[str, ...] = ()
    seed: int = 7

    def __post_init__(self):
        if min(self.size, self.leaves) < 1 or not 0 < self.smallest < self.largest:
            raise UsageError(
                f"size {self.size}, leaves {self.leaves}, radii {self.smallest} to {self.largest} are impossible; "
                "allowed: 1 or more, 0 < smallest < largest"
            )
        if not min(self.noise, self.contrast, self.tone, self.marks) >= 0 or self.size < MARK:
            raise UsageError(
                f"noise {self.noise}, contrast {self.contrast}, tone {self.tone}, marks {self.marks}, size {self.size} "
                f"are impossible; allowed: 0 or more, size {MARK} or more"
            )
        wrong = [mark for mark in self.spared if len(mark) != MARK**2 or set(mark) - set("01")]
        if wrong:
            raise UsageError(f"the spared mark {wrong[0]!r} is impossible; allowed: {MARK**2} of 0 and 1, row by row")


@dataclass(frozen=True)
class PatchConfig:
    """How patches are cut; the augmentation's strengths are not in the facts [ours].

    Attributes:
        count: Patches.
        size: Side of a patch.
        smallest: Least side, in the picture's pixels, of what becomes a patch; the largest is half the picture's.
        turn: Largest rotation to either side, degrees.
        exact: Whether patches are cut on whole pixels instead, neither scaled nor turned: nothing is blurred.
        scaled: Share of them scaled and turned all the same: on whole pixels no patch shows a large shape whole.
        augmentation: Flip and colours of each patch.
        picture: What they are cut from, unless a picture is handed in.
    """

    count: int = 50_000
    size: int = 32
    smallest: int = 24
    turn: float = 35.0
    exact: bool = False
    scaled: float = 0.0
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(crop_scale=None))
    picture: PictureConfig = field(default_factory=PictureConfig)

    def __post_init__(self):
        if min(self.count, self.size, self.smallest) < 1 or not self.turn >= 0:
            raise UsageError(
                f"count {self.count}, size {self.size}, smallest {self.smallest}, turn {self.turn} are impossible; "
                "allowed: 1 or more, turn 0 or more"
            )
        if not 0 <= self.scaled <= 1 or (self.scaled and not self.exact):
            raise UsageError(f"scaled {self.scaled} is impossible; allowed: 0 to 1, above 0 with `exact` alone")


def dead_leaves(config: PictureConfig | None = None) -> Tensor:
    """The picture, uint8 (3, size, size): the same bytes on every platform for the same settings."""
    config = config or PictureConfig()
    rng = np.random.Generator(np.random.PCG64(config.seed))
    canvas = np.full((3, config.size, config.size), 128.0)
    for _ in range(config.leaves):
        _draw_leaf(canvas, rng, config)
    canvas += config.noise * (rng.random(canvas.shape) + rng.random(canvas.shape) - 1)
    if (config.contrast, config.tone) != (1, 1):
        grey = canvas.mean(0, keepdims=True)
        canvas = 128 + config.contrast * (grey - 128) + config.tone * (canvas - grey)
    spared = _with_mirrored(config.spared)
    _draw_marks(canvas, rng, config.marks, spared)
    picture = np.floor(np.clip(canvas, 0, 255)).astype(np.uint8)
    _break_marks(picture, spared)
    return torch.from_numpy(picture)


def _with_mirrored(marks: tuple[str, ...]) -> list[np.ndarray]:
    """Marks as (3, 3) of 0 and 1, and as a flipped patch shows them."""
    grids = [np.array([*map(int, mark)]).reshape(MARK, MARK) for mark in marks]
    return grids + [grid[:, ::-1] for grid in grids]


def _draw_marks(canvas: np.ndarray, rng: np.random.Generator, count: int, spared: list[np.ndarray]) -> None:
    """Small chequers of full contrast, in place."""
    for _ in range(count):
        top, left = (int(draw * (canvas.shape[1] - MARK + 1)) for draw in rng.random(2))
        mark = rng.random((MARK, MARK)) < 0.5
        while any((mark == each).all() for each in spared):
            mark = rng.random((MARK, MARK)) < 0.5
        canvas[:, top : top + MARK, left : left + MARK] = 255 * mark


def _break_marks(picture: np.ndarray, spared: list[np.ndarray]) -> None:
    """Turn one pixel of each spared mark in the finished picture (3, H, W), in place, until it shows none.

    Which pixel: the first of the nine after which fewer are shown, for a turned pixel may complete another mark.
    """
    while len(found := _shown(picture, spared)):
        top, left = found[0]
        for place in range(MARK**2):
            row, column = top + place // MARK, left + place % MARK
            picture[:, row, column] = 255 - picture[:, row, column]
            if len(_shown(picture, spared)) < len(found):
                break
            picture[:, row, column] = 255 - picture[:, row, column]
        else:
            raise UsageError(f"no pixel frees the picture of the mark at {top}, {left}; allowed: fewer spared marks")


def _shown(picture: np.ndarray, spared: list[np.ndarray]) -> np.ndarray:
    """Top left corners (N, 2) of the spared marks that a picture (3, H, W) shows in black and white."""
    colours = [(picture == level).all(0) for level in (0, 255)]
    high, wide = (side - MARK + 1 for side in picture.shape[1:])
    shown = np.zeros((high, wide), dtype=bool)
    for mark in spared:
        here = np.ones_like(shown)
        for (row, column), bit in np.ndenumerate(mark):
            here &= colours[bit][row : row + high, column : column + wide]
        shown |= here
    return np.argwhere(shown)


def _draw_leaf(canvas: np.ndarray, rng: np.random.Generator, config: PictureConfig) -> None:
    """One disc or box, plain, shaded or striped, in place; small ones are the most."""
    size = canvas.shape[1]
    draws = rng.random(14)
    # Radii r with a density near r^-3 between the limits, by inverting its cumulative share.
    radius = 1 / np.sqrt(1 / config.largest**2 + draws[0] * (1 / config.smallest**2 - 1 / config.largest**2))
    y, x = draws[1] * size, draws[2] * size
    top, bottom = max(0, int(y - radius)), min(size, int(y + radius) + 1)
    left, right = max(0, int(x - radius)), min(size, int(x + radius) + 1)
    rows, columns = np.arange(top, bottom)[:, None] - y, np.arange(left, right)[None] - x
    disc = draws[3] < 0.6
    inside = rows * rows + columns * columns <= radius * radius if disc else np.abs(rows) <= radius * draws[4]
    inside = np.broadcast_to(inside, (bottom - top, right - left))
    wave = (rows * (draws[5] - 0.5) + columns * (draws[6] - 0.5)) / (1.5 + 4 * draws[7])
    striped = (np.floor(wave) % 2 == 0) & (draws[8] < 0.4)
    shading = (rows * (draws[9] - 0.5) + columns * (draws[10] - 0.5)) * (60 / radius)
    first, second = 255 * draws[11:14], 255 * rng.random(3)
    colour = np.where(striped, second[:, None, None], first[:, None, None]) + shading
    canvas[:, top:bottom, left:right] = np.where(inside, colour, canvas[:, top:bottom, left:right])


def patches(config: PatchConfig, seed: int, picture: Tensor | None = None, device="cpu") -> Tensor:
    """Augmented patches, uint8 (count, 3, size, size).

    Args:
        config: How they are cut.
        seed: Of all places, scales and colours.
        picture: uint8 (3, H, W), square or not; None: the one that `config` draws.
        device: Where they are cut and stay.

    Raises:
        UsageError: If the picture is too small for the smallest patch.
    """
    picture = dead_leaves(config.picture) if picture is None else picture
    _require_room(picture, config)
    source = torch.Generator(device).manual_seed(seed)
    picture = picture.to(device)
    share = config.scaled if config.exact else 1.0
    levels = _pyramid(picture.float()[None], config) if share else []
    parts = []
    for start in range(0, config.count, CHUNK):
        count = min(CHUNK, config.count - start)
        scaled = round(share * count)
        cuts = [_crop(picture, count - scaled, config, source)] if scaled < count else []
        cut = torch.cat(cuts + ([_cut(levels, scaled, config, source)] if scaled else []))
        parts.append((config.augmentation(cut, source) * 255).round_().clamp_(0, 255).to(torch.uint8).contiguous())
    return torch.cat(parts)


def _require_room(picture: Tensor, config: PatchConfig) -> None:
    """Refuse a picture (3, H, W) that is too small for what is cut from it: a scaled patch is at most half of it."""
    smallest, least = config.size, config.size
    if config.scaled or not config.exact:
        smallest, least = config.smallest, max(2 * config.smallest, config.size * config.exact)
    if min(picture.shape[1:]) < least:
        raise UsageError(
            f"a picture of {tuple(picture.shape[1:])} pixels is too small for patches from {smallest} pixels on; "
            f"allowed: {least} or more"
        )


def _crop(picture: Tensor, count: int, config: PatchConfig, source: Generator) -> Tensor:
    """Patches uint8 (count, 3, size, size) on whole pixels, at random places."""
    rooms = [side - config.size + 1 for side in picture.shape[1:]]
    starts = [torch.randint(room, (count, 1), generator=source, device=picture.device) for room in rooms]
    rows, columns = (start + torch.arange(config.size, device=picture.device) for start in starts)
    return picture[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1).contiguous()


def _pyramid(picture: Tensor, config: PatchConfig) -> list[Tensor]:
    """The picture halved again and again, so that no patch skips pixels."""
    levels = [picture]
    while min(levels[-1].shape[2:]) // 2 >= 2 * config.size:
        levels.append(avg_pool2d(levels[-1], 2))
    return levels


def _cut(levels: list[Tensor], count: int, config: PatchConfig, source: Generator) -> Tensor:
    """Patches uint8 (count, 3, size, size) at random places, scales (log-uniform) and turns."""
    device, side = levels[0].device, min(levels[0].shape[2:])
    draws = torch.rand(4, count, generator=source, device=device)
    share = config.smallest / side * (side / 2 / config.smallest) ** draws[0]  # of the picture's side
    angle = torch.deg2rad(config.turn * (2 * draws[1] - 1))
    reach = (1 - share * (angle.cos() + angle.sin().abs())).clamp_min(0)  # the turned patch stays inside
    shift = reach * (2 * draws[2:] - 1)
    cos, sin = share * angle.cos(), share * angle.sin()
    rows = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
    level = (share * side / config.size).log2().floor().clamp(0, len(levels) - 1).long()
    cut = torch.empty(count, 3, config.size, config.size, device=device)
    for number, each in enumerate(levels):
        chosen = (level == number).nonzero().squeeze(1)
        if not len(chosen):
            continue
        grid = affine_grid(rows[chosen], (len(chosen), 3, config.size, config.size), align_corners=False)
        cut[chosen] = grid_sample(
            each.expand(len(chosen), -1, -1, -1), grid, padding_mode="reflection", align_corners=False
        )
    return cut.round_().clamp_(0, 255).to(torch.uint8)
