"""SimCLR's augmentation for a whole batch on the device, one random draw per image.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomApply(ColorJitter) and
RandomGrayscale applied image by image; PIL rounds to 8 bits between the steps, this does not.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL and torchvision
CONTRAST, SATURATION, HUE = 1, 2, 3  # numbers of the adjustments in `order`; brightness is 0
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
    """

    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    greyscale: float = 0.2

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """One view of each image.

        Args:
            images: uint8 (B, 3, H, W).
            generator: On the images' device; the only source of randomness.

        Returns:
            float32 (B, 3, H, W) in [0, 1], channels last in memory.
        """
        draws = self.draw(len(images), images.shape[-1], generator, images.device)
        chunk = CHUNK if images.device.type == "cpu" else len(images)
        views = torch.empty(images.shape, device=images.device, memory_format=torch.channels_last)
        for i in range(0, len(images), chunk):
            part = slice(i, i + chunk)
            views[part] = apply(images[part], {name: value[part] for name, value in draws.items()})
        return views

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
    """Augment uint8 images (B, 3, H, W) with the draws given; float32 (B, 3, H, W) in [0, 1]."""
    views = resample(images.float().div_(255), draws["box"], draws["flip"])
    views = jitter(views, draws)
    grey = draws["grey"].nonzero().squeeze(1)
    return views.index_copy_(0, grey, luminance(views[grey]).expand(-1, 3, -1, -1))


def resample(images: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Crop, resize to the original size and flip, as two small matrix products per image.

    Bilinear interpolation is separable and a crop is never larger than its output here, so antialiasing (PIL's) changes
    nothing: each output row and column is a fixed mixture of two input rows and columns.
    """
    rows, columns = images.shape[-2:]
    down = interpolation(box[:, 0], box[:, 2], rows)
    across = interpolation(box[:, 1], box[:, 3], columns)
    across = torch.where(flip.view(-1, 1, 1), across.flip(1), across)
    resized = torch.bmm(images.reshape(len(images), -1, columns), across.transpose(1, 2))
    return torch.matmul(down.unsqueeze(1), resized.view(images.shape))


def interpolation(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Matrices (B, size, size) that turn `length` positions from `start` on into `size` positions, linearly."""
    grid = torch.arange(size, device=start.device, dtype=torch.float32)
    inside = ((grid + 0.5) * (length / size).unsqueeze(1) - 0.5).clamp_min(0)
    position = start.unsqueeze(1) + torch.minimum(inside, (length - 1).unsqueeze(1))
    # A hat function of width one around the position: two neighbours whose weights add up to 1.
    return (1 - (position.unsqueeze(2) - grid).abs()).clamp_min_(0)


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1)


def jitter(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """ColorJitter in each image's own order of the four adjustments; changes `images`.

    Brightness, contrast and saturation are one pass over all images, each blending with what its own adjustment blends
    with; the hue, which is dearer, is turned only where it is the image's turn.
    """
    turned = draws["jitter"]
    for position in range(4):
        number = draws["order"][:, position]
        factor = draws["factors"].gather(1, number.unsqueeze(1)).view(-1, 1, 1, 1)
        blended = turned & (number != HUE)
        blend(images, number.view(-1, 1, 1, 1), torch.where(blended.view(-1, 1, 1, 1), factor, 1.0))
        rows = (turned & (number == HUE)).nonzero().squeeze(1)
        images.index_copy_(0, rows, hue(images[rows], factor[rows]))
    return images


def blend(images: Tensor, number: Tensor, factor: Tensor) -> None:
    """Blend each image with black (brightness), its mean luminance (contrast) or its luminance (saturation), in place.

    Args:
        images: (B, 3, H, W) in [0, 1].
        number: (B, 1, 1, 1), which of the three.
        factor: (B, 1, 1, 1), the image's share; 1 leaves it as it is.
    """
    grey = luminance(images)
    mean = grey.mean((2, 3), keepdim=True) * (1 - factor) * (number == CONTRAST)
    other = grey.mul_((1 - factor) * (number == SATURATION)).add_(mean)
    images.mul_(factor).add_(other).clamp_(0, 1)


def hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue by `factor` of a full circle, through HSV.

    Without a branch: the hue, in sectors of 60 degrees, is at a distance from cyan (3) that is linear in the channels,
    and on the side that blue - green says. Back from HSV, a channel is a trapezoid of the hue.
    """
    red, green, blue = images.unbind(1)
    lowest = images.amin(1)
    span = images.amax(1) - lowest
    distance = (red - green).sub_(blue - lowest).div_(span.clamp_min(1e-12)).add_(2)
    angle = torch.copysign(distance, blue - green).add_(6 * factor.squeeze(1) + 3)
    angle.sub_((angle / 6).floor_().mul_(6))
    shares = ((angle - 3).abs_().sub_(1), 2 - (angle - 2).abs_(), 2 - (angle - 4).abs_())
    return torch.stack([torch.addcmul(lowest, span, share.clamp_(0, 1)) for share in shares], 1)
