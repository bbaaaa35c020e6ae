"""CIFAR-style ResNet encoders whose depth, width and stem stride are settings."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError, choose
from distill_lib.vision.shortcut import Shortcut

# Blocks a stage. 10 is the small one for CPUs; 18 and 34 are He et al. (2016); 50 has bottlenecks.
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
STAGES = ("stage1", "stage2", "stage3", "stage4")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # CIFAR-10, as BadEncoder uses them

PRECISIONS = {"float32": False, "bf16": True}  # whether the convolutions run under autocast; losses never do


@dataclass(frozen=True)
class EncoderConfig:
    """Size of an encoder.

    Attributes:
        depth: 10, 18, 34 or 50.
        width: Channels of the first stage; each later stage has twice as many.
        stem_stride: 1 as in the papers; 2 makes a 32-pixel image four times cheaper.
    """

    depth: int = 18
    width: int = 64
    stem_stride: int = 1

    def __post_init__(self):
        choose("encoder depth", self.depth, BLOCKS)
        if self.width < 4 or self.stem_stride not in (1, 2, 4):
            raise UsageError(
                f"encoder width {self.width} with stem_stride {self.stem_stride} is impossible; "
                "width is at least 4, stem_stride 1, 2 or 4"
            )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al., CVPR 2016)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut (He et al., CVPR 2016)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return torch.relu(self.bn3(self.conv3(hidden)) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(Shortcut(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class Encoder(nn.Module):
    """A ResNet without its classification layer.

    Normalisation is part of the encoder, so that whoever holds an image in [0, 1] holds its input.
    """

    def __init__(self, config: EncoderConfig, precision: str = "float32"):
        super().__init__()
        self.config = config
        self.autocast = choose("precision", precision, PRECISIONS)
        block = BasicBlock if config.depth < 50 else Bottleneck
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, config.width, 3, config.stem_stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(config.width)
        channels = config.width
        for number, blocks in enumerate(BLOCKS[config.depth]):
            width = config.width * 2**number
            layers = []
            for index in range(blocks):
                layers.append(block(channels, width, 2 if number and not index else 1))
                channels = width * block.expansion
            self.add_module(STAGES[number], nn.Sequential(*layers))
        self.dimension = channels

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W) in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            x = torch.relu(self.bn(self.conv((images - self.mean) / self.std)))
            x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return x.float().mean((2, 3))


def build_encoder(config: EncoderConfig, seed: int, precision: str = "float32") -> Encoder:
    """An encoder with random weights drawn from `seed` alone (the global generator is left as it was).

    Args:
        config: Depth, width, stride of the stem.
        seed: Of the weights: He's normal initialisation by fan out, batch norms at 1 and 0.
        precision: `float32` or `bf16`, in which the stages compute; weights and features are float32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU too
        encoder = Encoder(config, precision)
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return encoder.to(memory_format=torch.channels_last)
