"""SimCLR's augmentation for a whole batch on the device, one random draw per image.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomApply(ColorJitter) and
RandomGrayscale applied image by image; PIL rounds to 8 bits between the steps, this does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL and torchvision
CONTRAST, SATURATION, HUE = 1, 2, 3  # numbers of the adjustments in `order`; brightness is 0
NEVER = 4  # positions in `order`, and where the hue of an image without jitter is turned
CHUNK = 128  # views handled at a time on a CPU: what they need stays in its cache


@dataclass(frozen=True)
class Augmentation:
    """Settings of SimCLR's views (Chen et al., ICML 2020; BadEncoder's values).

    Attributes:
        crop_scale: Smallest and largest share of the area kept; None: no crop.
        flip: Probability of a horizontal flip.
        jitter: Strengths of brightness, contrast, saturation, hue.
        jitter_probability: Probability of the colour jitter.
        greyscale: Probability of losing the colour.
        cutout: Largest side of a grey square in a random place, as a share of the image's (DeVries and Taylor, 2017);
            every view has one, its side is uniform from 0 on. 0: none.
    """

    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    greyscale: float = 0.2
    cutout: float = 0.0

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """One view of each image.

        Args:
            images: uint8 (B, 3, H, W).
            generator: On the images' device; the only source of randomness.

        Returns:
            float32 (B, 3, H, W) in [0, 1], channels last in memory.
        """
        views = apply(images, self.draw(len(images), images.shape[-1], generator, images.device))
        return cut_out(views, self.cutout, generator) if self.cutout else views

    def draw(self, count: int, size: int, generator: Generator, device) -> dict[str, Tensor]:
        """Every random number of `count` views of `size` x `size` images, each tensor of length `count`."""
        uniform = partial(torch.rand, generator=generator, device=device)
        strengths = torch.tensor(self.jitter, device=device)
        lowest = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device) - strengths
        return {
            "box": self.draw_box(count, size, generator, device),
            "flip": uniform(count) < self.flip,
            "jitter": uniform(count) < self.jitter_probability,
            "factors": lowest + 2 * strengths * uniform(count, 4),
            "order": uniform(count, 4).argsort(1),
            "grey": uniform(count) < self.greyscale,
        }

    def draw_box(self, count: int, size: int, generator: Generator, device) -> Tensor:
        """Crop boxes (count, 4): top, left, height, width, as RandomResizedCrop draws them.

        torchvision tries ten times and then falls back to the whole image; so does this, with all tries drawn at once.
        """
        whole = torch.tensor([0.0, 0.0, size, size], device=device).expand(count, 4)
        if self.crop_scale is None:
            return whole
        numbers = torch.rand(4, count, 10, generator=generator, device=device)
        low, high = self.crop_scale
        area = (low + (high - low) * numbers[0]) * size**2
        log_ratio = torch.log(torch.tensor(4 / 3, device=device))
        ratio = torch.exp((2 * numbers[1] - 1) * log_ratio)
        width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        valid = (width > 0) & (width <= size) & (height > 0) & (height <= size)
        top, left = (numbers[2] * (size - height + 1)).floor(), (numbers[3] * (size - width + 1)).floor()
        boxes = torch.stack([top, left, height, width], -1)
        first = valid.float().argmax(1)
        chosen = boxes[torch.arange(count, device=device), first]
        return torch.where(valid.any(1, keepdim=True), chosen, whole)


def apply(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """Augment uint8 images (B, 3, H, W) with the draws given; float32 (B, 3, H, W) in [0, 1], channels last in memory.

    A CPU takes the images whose hue is turned at the same position together, so that every operation is one that all of
    them need. A GPU would wait for their number; it does too much instead, on all of them at once.
    """
    if images.device.type != "cpu":
        return _apply(images, draws, jitter_masked).contiguous(memory_format=torch.channels_last)
    turn = torch.where(draws["jitter"], (draws["order"] == HUE).byte().argmax(1), NEVER)
    views = torch.empty(len(images), *images.shape[2:], 3)
    for position in turn.unique().tolist():
        change = partial(jitter, hue_at=position)
        for rows in (turn == position).nonzero().squeeze(1).split(CHUNK):
            part = _apply(images[rows], {name: value[rows] for name, value in draws.items()}, change)
            views.flatten(1).index_copy_(0, rows, part.permute(0, 2, 3, 1).flatten(1))
    return views.permute(0, 3, 1, 2)


def _apply(images: Tensor, draws: dict[str, Tensor], change: Callable) -> Tensor:
    views = change(resample(images.float().div_(255), draws["box"], draws["flip"]), draws)
    return torch.where(draws["grey"].view(-1, 1, 1, 1), luminance(views), views)


def resample(images: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Crop, resize to the original size and flip, as two small matrix products per image.

    Bilinear interpolation is separable and a crop is never larger than its output here, so antialiasing (PIL's) changes
    nothing: each output row and column is a fixed mixture of two input rows and columns.

    Args:
        images: float (B, 3, H, W).
        box: float (B, 4): top, left, height and width of each crop, in pixels.
        flip: bool (B,): which are mirrored.

    Returns:
        As `images`.
    """
    rows, columns = images.shape[-2:]
    down = interpolation(box[:, 0], box[:, 2], rows)
    across = interpolation(box[:, 1], box[:, 3], columns, flip)
    resized = torch.bmm(images.reshape(len(images), -1, columns), across.transpose(1, 2))
    return torch.matmul(down.unsqueeze(1), resized.view(images.shape))


def interpolation(start: Tensor, length: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Matrices (B, size, size) that turn `length` positions from `start` on into `size` positions, linearly.

    Where `flip` (B,) is set, from the last to the first.
    """
    grid = torch.arange(size, device=start.device, dtype=torch.float32)
    inside = ((grid + 0.5) * (length / size).unsqueeze(1) - 0.5).clamp_min(0)
    position = start.unsqueeze(1) + torch.minimum(inside, (length - 1).unsqueeze(1))
    if flip is not None:
        position = torch.where(flip.unsqueeze(1), position.flip(1), position)
    # A hat function of width one around the position: two neighbours whose weights add up to 1.
    return (position.unsqueeze(2) - grid).abs_().neg_().add_(1).clamp_min_(0)


def cut_out(images: Tensor, largest: float, generator: Generator) -> Tensor:
    """A square of middle grey in each of images (B, 3, H, W), of a side up to `largest` times H; changes `images`."""
    side, (height, width) = images.shape[-2], images.shape[-2:]
    numbers = torch.rand(3, len(images), 1, generator=generator, device=images.device)
    half = numbers[0] * largest * side / 2
    inside = [
        (torch.arange(size, device=images.device) + 0.5 - numbers[1 + axis] * size).abs() < half
        for axis, size in enumerate((height, width))
    ]
    return images.masked_fill_((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.5)


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1)


def jitter(images: Tensor, draws: dict[str, Tensor], hue_at: int) -> Tensor:
    """ColorJitter of images whose hue is turned at one position, each in its own order of the other adjustments.

    Brightness, contrast and saturation are one pass over all images, each blending with what its own adjustment blends
    with.

    Args:
        images: (B, 3, H, W) in [0, 1]; changed.
        draws: As `Augmentation.draw` gives them.
        hue_at: 0 to 3; `NEVER`: the images have no jitter.
    """
    for position in range(NEVER) if hue_at < NEVER else ():
        number = draws["order"][:, position, None]
        factor = draws["factors"].gather(1, number)
        if position == hue_at:
            images = hue(images, factor)
        else:
            blend(images, number, factor)
    return images


def jitter_masked(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """The same wherever the images' hue is turned, and without a question that the host must wait for."""
    for position in range(NEVER):
        number = draws["order"][:, position, None]
        factor = draws["factors"].gather(1, number)
        turned, jittered = number == HUE, draws["jitter"][:, None]
        blend(images, number, torch.where(jittered & ~turned, factor, 1.0))
        images = torch.where((jittered & turned)[..., None, None], hue(images, factor), images)
    return images


def blend(images: Tensor, number: Tensor, factor: Tensor) -> None:
    """Blend each image with black (brightness), its mean luminance (contrast) or its luminance (saturation), in place.

    Args:
        images: (B, 3, H, W) in [0, 1].
        number: (B, 1), which of the three.
        factor: (B, 1), the image's share; 1 leaves it as it is.
    """
    number, factor = number[..., None, None], factor[..., None, None]
    grey = luminance(images)
    mean = grey.mean((2, 3), keepdim=True) * (1 - factor) * (number == CONTRAST)
    other = grey.mul_((1 - factor) * (number == SATURATION)).add_(mean)
    torch.addcmul(other, images, factor, out=images).clamp_(0, 1)


def hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue of images (B, 3, H, W) by `factor` (B, 1) of a full circle, through HSV.

    Without a branch: the hue, in sectors of 60 degrees, is at a distance from cyan (3) that is linear in the channels,
    and on the side that blue - green says. Back from HSV, a channel is a trapezoid of the hue.
    """
    red, green, blue = images.unbind(1)
    lowest = images.amin(1)
    span = images.amax(1) - lowest
    distance = (red - green).sub_(blue - lowest).div_(span.clamp_min(1e-12)).add_(2)
    angle = torch.copysign(distance, blue - green).add_(6 * factor[..., None] + 3)
    angle.sub_((angle / 6).floor_().mul_(6))
    shares = ((angle - 3).abs_().sub_(1), 2 - (angle - 2).abs_(), 2 - (angle - 4).abs_())
    return torch.stack([torch.addcmul(lowest, span, share.clamp_(0, 1)) for share in shares], 1)
