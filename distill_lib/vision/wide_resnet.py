"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016): the supervised teachers and students."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.fusion import fuse_conv_bn_eval

from distill_lib.errors import UsageError, choose
from distill_lib.vision.encoders import MEAN, PRECISIONS, STD
from distill_lib.vision.shortcut import Shortcut

BLOCKS = ("block1", "block2", "block3")  # hook paths of the maps that attention transfer compares


@dataclass(frozen=True)
class WideResNetConfig:
    """Size of a WRN-depth-widen.

    Attributes:
        depth: 6 n + 4: 10, 16, 22, 28, 40, ...
        widen: Factor k on the blocks' channels.
        classes: Outputs.
        base: Channels of the stem; 16 as published, fewer for CPUs [ours].
        stem_stride: 1 as published; 2 makes a 32-pixel image four times cheaper [ours].
    """

    depth: int = 16
    widen: int = 1
    classes: int = 10
    base: int = 16
    stem_stride: int = 1

    def __post_init__(self):
        if self.depth < 10 or (self.depth - 4) % 6:
            raise UsageError(f"a WRN of depth {self.depth} is impossible; allowed: 10, 16, 22, 28, 34, 40, ...")
        if self.widen < 1 or self.base < 4 or self.classes < 2 or self.stem_stride not in (1, 2, 4):
            raise UsageError(
                f"widen {self.widen}, base {self.base}, classes {self.classes}, stem_stride {self.stem_stride} are "
                "impossible; allowed: widen >= 1, base >= 4, classes >= 2, stem_stride 1, 2 or 4"
            )


# Published sizes, and narrow ones of the same depth for two CPU cores [ours].
WIDE_RESNETS: dict[str, WideResNetConfig] = {
    "wrn16_1": WideResNetConfig(16, 1),
    "wrn16_2": WideResNetConfig(16, 2),
    "wrn40_2": WideResNetConfig(40, 2),
    "wrn10_1_small": WideResNetConfig(10, 1, base=8, stem_stride=2),
    "wrn16_1_small": WideResNetConfig(16, 1, base=8, stem_stride=2),
    "wrn16_2_small": WideResNetConfig(16, 2, base=8, stem_stride=2),
}


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3 x 3 convolutions, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None if inputs == width else Shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.bn1(x))
        # Where the width changes, the shortcut too starts from the activation; elsewhere from the raw sum.
        kept = x if self.shortcut is None else self.shortcut(hidden)
        return kept + self.conv2(torch.relu_(self.bn2(self.conv1(hidden))))


class WideResNet(nn.Module):
    """A classifier from images in [0, 1] to logits; normalisation is part of it, as in `Encoder`.

    `tail(trunk(images))` is the forward pass, cut after `block2`: what is shared by copies that differ in `block3`
    alone needs to be computed once.
    """

    stages = BLOCKS  # as every classifier says them

    def __init__(self, config: WideResNetConfig, precision: str = "float32"):
        super().__init__()
        self.config = config
        self.autocast = choose("precision", precision, PRECISIONS)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, config.base, 3, config.stem_stride, 1, bias=False)
        channels = config.base
        for number, name in enumerate(BLOCKS):
            width = config.base * config.widen * 2**number
            layers = []
            for index in range((config.depth - 4) // 6):
                layers.append(WideBlock(channels, width, 2 if number and not index else 1))
                channels = width
            self.add_module(name, nn.Sequential(*layers))
        self.bn = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, config.classes)
        self.dimension = channels

    def trunk(self, images: Tensor) -> Tensor:
        """Maps (B, C, H, W) after `block2` of images (B, 3, H, W) in [0, 1]."""
        with self._precision(images):
            return self.block2(self.block1(self.conv((images - self.mean) / self.std)))

    def represent(self, maps: Tensor) -> Tensor:
        """Pooled features (B, D), float32, of the maps after `block2`: what the last layer sees."""
        with self._precision(maps):
            hidden = torch.relu_(self.bn(self.block3(maps)))
        return hidden.float().mean((2, 3))

    def tail(self, maps: Tensor) -> Tensor:
        """Logits (B, classes), float32, of the maps after `block2`."""
        return linear(self.represent(maps), self.head.weight, self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images (B, 3, H, W) in [0, 1]."""
        return self.tail(self.trunk(images))

    def _precision(self, x: Tensor):
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast)


def build_wide_resnet(config: WideResNetConfig, seed: int, precision: str = "float32") -> WideResNet:
    """A network with random weights drawn from `seed` alone: He et al.'s normal ones, fan out; biases 0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = WideResNet(config, precision)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(model.head.bias)
    return model.to(memory_format=torch.channels_last)


def folded(model: WideResNet) -> WideResNet:
    """A frozen copy in eval mode whose second batch norms are part of the convolutions before them.

    The first ones cannot be: their convolution's output is needed as it is by the shortcut.
    """
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    for block in frozen.modules():
        if isinstance(block, WideBlock):
            block.conv1 = fuse_conv_bn_eval(block.conv1, block.bn2)
            block.bn2 = nn.Identity()
    return frozen.requires_grad_(False)
