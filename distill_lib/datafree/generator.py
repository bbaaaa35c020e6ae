"""The generator of ZSKT and CMI: noise to images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError, choose
from distill_lib.vision.encoders import MEAN, STD

UPSAMPLED = 4  # two doublings
SLOPE = 0.2  # of the leaky ReLUs [ours]


# From the final batch norm to images; `normalised` is what the networks' own normalisation undoes, and is not clipped.
OUTPUTS = {
    "normalised": lambda generator, x: x * generator.std + generator.mean,
    "unit": lambda _generator, x: torch.sigmoid(x),
}


@dataclass(frozen=True)
class GeneratorConfig:
    """Size of a generator; the defaults are ZSKT's published ones.

    Attributes:
        latent: Length of z.
        channels: Of the two upsampling blocks; the first are those of the smallest map too.
        image_size: Side of the images, a multiple of 4.
        output: `normalised`: the final batch norm is the networks' normalised input (ZSKT; that the mapping to image
            units is linear and unclipped is ours [ours]). `unit`: a sigmoid, so that images can be stored (CMI [ours]).
    """

    latent: int = 100
    channels: tuple[int, int] = (128, 64)
    image_size: int = 32
    output: str = "normalised"

    def __post_init__(self):
        choose("output of a generator", self.output, OUTPUTS)
        if self.latent < 1 or min(self.channels) < 1 or self.image_size < 4 or self.image_size % UPSAMPLED:
            raise UsageError(
                f"a generator of latent {self.latent}, channels {self.channels}, image_size {self.image_size} is "
                "impossible; allowed: latent >= 1, channels >= 1, image_size a multiple of 4"
            )


class Generator(nn.Module):
    """z 100 -> 128 x 8 x 8, two upsampling blocks of 128 and 64 channels, a last convolution, a final batch norm.

    Every batch norm uses its batch's statistics, in sampling as in training [ours]: the pictures shown are those that
    the student saw.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        wide, narrow = config.channels
        side = config.image_size // UPSAMPLED
        self.start = nn.Linear(config.latent, wide * side * side)
        self.unflatten = nn.Unflatten(1, (wide, side, side))
        self.blocks = nn.Sequential(
            _norm(wide), *_block(wide, wide), *_block(wide, narrow), nn.Conv2d(narrow, 3, 3, 1, 1), _norm(3)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Images (B, 3, H, W) of noise (B, latent)."""
        maps = self.unflatten(self.start(noise)).contiguous(memory_format=torch.channels_last)
        return OUTPUTS[self.config.output](self, self.blocks(maps))


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Upsample(scale_factor=2),
        nn.Conv2d(inputs, outputs, 3, 1, 1),
        _norm(outputs),
        nn.LeakyReLU(SLOPE),
    )


def build_generator(config: GeneratorConfig, seed: int) -> Generator:
    """A generator with torch's own initial weights, drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        generator = Generator(config)
    return generator.to(memory_format=torch.channels_last)


@torch.no_grad()
def sample(generator: Generator, count: int, seed: int) -> Tensor:
    """Images (count, 3, H, W) clipped to [0, 1], to look at."""
    device = generator.start.weight.device
    source = torch.Generator(device).manual_seed(seed)
    return generator(torch.randn(count, generator.config.latent, generator=source, device=device)).clamp(0, 1)
