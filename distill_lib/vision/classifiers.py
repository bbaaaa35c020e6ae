"""Supervised classifiers by name: the teachers and students of the studies of undistillable teachers.

Each is a stem, a few stages, a pooling and a last layer, reached by hook path: `stem`, the names in `stages`, `pooled`
(the features that the last layer sees) and `head`. Images are in [0, 1] outside, normalisation is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError, choose
from distill_lib.vision.encoders import BLOCKS, MEAN, PRECISIONS, STAGES, STD, Encoder, EncoderConfig
from distill_lib.vision.shortcut import Shortcut

NARROWEST = 16  # channels: torch 2.15 can crash on a CPU in the backward pass of narrower float32 convolutions
CNN_SIDE = 4  # of the last map that the CNN's linear layer reads, at 32 pixels and a stem of stride 1

MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1))


@dataclass(frozen=True)
class ClassifierConfig:
    """Size of a classifier.

    Attributes:
        family: Name in `FAMILIES`.
        depth: Layers, where the family comes in several depths; 0: the family's own.
        width: Channels of the first stage, where the family comes in several widths; 0: the family's own.
        classes: Outputs.
        stem_stride: 1 for 32-pixel images as published; 2 makes them four times cheaper [ours].
    """

    family: str = "resnet"
    depth: int = 0
    width: int = 0
    classes: int = 10
    stem_stride: int = 1

    def __post_init__(self):
        family = choose("family of classifiers", self.family, FAMILIES)
        if self.depth and not family.has_depth(self.depth):
            raise UsageError(f"a {self.family} of depth {self.depth} is impossible; allowed: 0 or {family.depths}")
        if self.width and not (family.wide and self.width >= NARROWEST):
            allowed = f"0, or at least {NARROWEST}" if family.wide else "0"
            raise UsageError(f"a {self.family} of width {self.width} is impossible; allowed: {allowed}")
        if self.classes < 2 or self.stem_stride not in (1, 2, 4):
            raise UsageError(
                f"classes {self.classes}, stem_stride {self.stem_stride} are impossible; "
                "allowed: classes >= 2, stem_stride 1, 2 or 4"
            )


class Parts(NamedTuple):
    """What a family builds.

    Attributes:
        stem: From normalised images.
        stages: Name -> module, from shallow to deep.
        pooled: From the last map to features (B, dimension).
        dimension: Length of the features.
    """

    stem: nn.Module
    stages: dict[str, nn.Module]
    pooled: nn.Module
    dimension: int


class Classifier(nn.Module):
    """From images in [0, 1] to logits; normalisation is part of it, as in `Encoder`.

    Attributes:
        stages: Hook paths of the stages, from shallow to deep.
        dimension: Length of the features at the hook path `pooled`.
    """

    def __init__(self, config: ClassifierConfig, precision: str = "float32"):
        super().__init__()
        self.config = config
        self.autocast = choose("precision", precision, PRECISIONS)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        parts = FAMILIES[config.family].build(config)
        self.stem = parts.stem
        for name, stage in parts.stages.items():
            self.add_module(name, stage)
        self.pooled = parts.pooled
        self.head = nn.Linear(parts.dimension, config.classes)
        self.stages, self.dimension = tuple(parts.stages), parts.dimension

    def represent(self, images: Tensor) -> Tensor:
        """Features (B, dimension), float32, of images (B, 3, H, W) in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            x = self.stem((images - self.mean) / self.std)
            for name in self.stages:
                x = self.get_submodule(name)(x)
        return self.pooled(x.float())

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images (B, 3, H, W) in [0, 1]."""
        return self.head(self.represent(images))


class Average(nn.Module):
    """The mean over places: (B, C, H, W) to (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class PreactivatedBlock(nn.Module):
    """Batch norm and ReLU before each of two 3 x 3 convolutions (He et al., ECCV 2016).

    The shortcut always starts from the raw input, and is a bare 1 x 1 convolution where the shape changes, as in the
    CIFAR PreResNets that the Nasty teacher's students are.
    """

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        same = inputs == width and stride == 1
        self.shortcut = nn.Identity() if same else Shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(torch.relu(self.bn1(x)))
        return self.shortcut(x) + self.conv2(torch.relu(self.bn2(hidden)))


def _resnet(config: ClassifierConfig) -> Parts:
    """ResNet-18 or -50 with the CIFAR stem, a 3 x 3 convolution without pooling: the encoders of the main study."""
    encoder = Encoder(EncoderConfig(config.depth or 18, config.width or 64, config.stem_stride))
    stem = nn.Sequential(encoder.conv, encoder.bn, nn.ReLU())
    return Parts(stem, {name: encoder.get_submodule(name) for name in STAGES}, Average(), encoder.dimension)


def _preresnet(config: ClassifierConfig) -> Parts:
    """PreResNet-(6 n + 2): three stages of n blocks with 16, 32 and 64 channels."""
    channels = base = config.width or 16
    stem = nn.Conv2d(3, base, 3, config.stem_stride, 1, bias=False)
    stages = {}
    for number, name in enumerate(STAGES[:3]):
        width, layers = base * 2**number, []
        for index in range(((config.depth or 20) - 2) // 6):
            layers.append(PreactivatedBlock(channels, width, 2 if number and not index else 1))
            channels = width
        stages[name] = nn.Sequential(*layers)
    return Parts(stem, stages, nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), Average()), channels)


def _cnn(config: ClassifierConfig) -> Parts:
    """Three convolutions with batch norm, max pooling and ReLU, then a linear layer with batch norm and ReLU.

    32, 64 and 128 channels; its published dropout is 0, so there is none. On images of other sizes than 32 the last
    map is brought to the size that the linear layer expects [ours].
    """
    base = config.width or 32
    stages, channels = {}, 3
    for number, name in enumerate(STAGES[:3]):
        width, stride = base * 2**number, 1 if number else config.stem_stride
        layers = nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU()
        stages[name], channels = nn.Sequential(*layers), width
    side = CNN_SIDE // config.stem_stride
    linear = nn.Linear(channels * side**2, channels)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Flatten(), linear, nn.BatchNorm1d(channels), nn.ReLU())
    return Parts(nn.Identity(), stages, pooled, channels)


def _shufflenetv2(config: ClassifierConfig) -> Parts:
    """torchvision's ShuffleNetV2 1.0 with a stem of stride 1 and without its pooling."""
    from torchvision.models import shufflenet_v2_x1_0  # a second, for this network alone

    network = shufflenet_v2_x1_0(weights=None)
    network.conv1[0].stride = (config.stem_stride,) * 2
    stages = {"stage1": network.stage2, "stage2": network.stage3, "stage3": network.stage4}
    return Parts(network.conv1, stages, nn.Sequential(network.conv5, Average()), network.fc.in_features)


def _mobilenetv2(config: ClassifierConfig) -> Parts:
    """torchvision's MobileNetV2 1.0 with a stem of stride 1, and stride 1 too before the 160 channels.

    `MOBILE` has expansion, channels, repeats and stride of its blocks. As in CIFAR versions, 32 pixels end as 4 x 4.
    Its dropout is left out, as there: it would draw from the global generator, which no checkpoint holds.
    """
    from torchvision.models import MobileNetV2  # a second, for this network alone

    network = MobileNetV2(inverted_residual_setting=[list(row) for row in MOBILE], dropout=0.0)
    layers = list(network.features)
    layers[0][0].stride = (config.stem_stride,) * 2
    cuts = (1, 4, 7, 14, 18)  # before each stage the maps are of full, a half, a quarter and an eighth of the side
    stages = {name: nn.Sequential(*layers[a:b]) for name, a, b in zip(STAGES, cuts, cuts[1:], strict=False)}
    return Parts(layers[0], stages, nn.Sequential(layers[18], Average()), network.last_channel)


class Family(NamedTuple):
    """A row of the registry of families.

    Attributes:
        build: Configuration -> parts.
        wide: Whether its width can be chosen.
        depths: Its depths, in words.
        has_depth: Whether a depth is one of them.
    """

    build: Callable[[ClassifierConfig], Parts]
    wide: bool = False
    depths: str = "nothing else"
    has_depth: Callable[[int], bool] = lambda depth: False


FAMILIES: dict[str, Family] = {
    "resnet": Family(_resnet, True, ", ".join(map(str, BLOCKS)), lambda depth: depth in BLOCKS),
    "preresnet": Family(_preresnet, True, "8, 14, 20, 26, 32, ...", lambda depth: depth >= 8 and depth % 6 == 2),
    "cnn": Family(_cnn, True),
    "shufflenetv2": Family(_shufflenetv2),
    "mobilenetv2": Family(_mobilenetv2),
}

# Published networks, and small ones for two CPU cores [ours].
CLASSIFIERS: dict[str, ClassifierConfig] = {
    "resnet18": ClassifierConfig("resnet", 18),
    "resnet50": ClassifierConfig("resnet", 50),
    "cnn": ClassifierConfig("cnn"),
    "preresnet20": ClassifierConfig("preresnet", 20),
    "preresnet32": ClassifierConfig("preresnet", 32),
    "shufflenetv2": ClassifierConfig("shufflenetv2"),
    "mobilenetv2": ClassifierConfig("mobilenetv2"),
    "resnet10_small": ClassifierConfig("resnet", 10, 16, stem_stride=2),
    "resnet10_tiny": ClassifierConfig("resnet", 10, 16, stem_stride=4),
    "preresnet8_small": ClassifierConfig("preresnet", 8, 16, stem_stride=2),
    "cnn_small": ClassifierConfig("cnn", 0, 16, stem_stride=2),
    "cnn_tiny": ClassifierConfig("cnn", 0, 16, stem_stride=4),
}


def build_classifier(config: ClassifierConfig, seed: int, precision: str = "float32") -> Classifier:
    """A network with random weights drawn from `seed` alone: He et al.'s normal ones, fan out; the head's bias 0.

    The same for every family [ours].

    Args:
        config: Size; `CLASSIFIERS` has those with a name.
        seed: Of the weights; the global generator is left as it was.
        precision: `float32` or `bf16`, of stem and stages.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU too
        model = Classifier(config, precision)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(model.head.bias)
    return model.to(memory_format=torch.channels_last)
