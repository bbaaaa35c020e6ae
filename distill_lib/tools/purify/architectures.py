"""What network a state dict belongs to: named by the user, or told from the shapes where these leave no doubt."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from distill_lib.errors import UsageError, choose
from distill_lib.tools.purify.refusal import shown
from distill_lib.vision.encoders import BLOCKS, STAGES, EncoderConfig, build_encoder

Shapes = Mapping[str, tuple[int, ...]]

# (blocks a stage, whether they are bottlenecks) -> torchvision's depth (He et al., CVPR 2016, table 1).
DEPTHS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
VIT_HEADS = {"vit_b_16": 12, "vit_b_32": 12, "vit_l_16": 16, "vit_l_32": 16, "vit_h_14": 16}
STUDY_STRIDES = {f"study_stem{stride}": stride for stride in (1, 2, 4)}
STUDY_SIDE = 32  # pixels, of every image set of the study
PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "base_encoder.", "encoder_q.", "model.", "net.")
COUNTER = ".num_batches_tracked"  # of batch norm: files from before torch 0.4.1 lack it


@dataclass(frozen=True)
class Architecture:
    """A network whose weights a file may hold.

    Attributes:
        name: As `--arch` takes it.
        make: (seed, precision) -> the network without its classification head, of random weights.
        paths: Four modules whose outputs are the stages, early to late.
        head: What the keys of its classification head begin with; empty: it has none.
        dimension: Length of its output.
        size: Side in pixels of the images that it was made for; None: any, so the user must say.
        fixed: Whether it takes images of that size alone.
        extra_tokens: Of a vision transformer, those before the image's own; None: it is none.
        constants: Buffers that training never changes, taken over from the file: the normalisation, where it is inside.
    """

    name: str
    make: Callable[[int, str], nn.Module]
    paths: Sequence[str]
    head: str
    dimension: int
    size: int | None = None
    fixed: bool = False
    extra_tokens: int | None = None
    constants: tuple[str, ...] = ()


def prefix_of(names: Sequence[str]) -> str:
    """What training programs put before every key ("module.backbone."); empty where nothing known is."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :] for name in names]
        found = [each for each in PREFIXES if all(name.startswith(each) for name in rest)]
        if not found or not names:
            return prefix
        prefix += found[0]


def resolve(arch: str | None, shapes: Shapes) -> Architecture:
    """The architecture that was named, or that the shapes tell.

    Args:
        arch: A name of `NAMED`, `vit:<heads>` or `timm:<name>`; None: to be inferred.
        shapes: Of the file's tensors, without a prefix.

    Raises:
        UsageError: If the name is unknown, does not fit, or is needed.
    """
    name = infer(shapes) if arch is None else arch
    family, colon, inner = name.partition(":")
    if colon:
        return choose("architecture", family, PREFIXED)(inner, shapes)
    allowed = {**NAMED, "vit:<heads>": None, "timm:<name>": None}
    make = choose("architecture", name, allowed)
    if make is None:
        raise UsageError(f"architecture {name!r} is a form; allowed: filled in, as in vit:3 or timm:resnet26")
    return make(shapes)


def infer(shapes: Shapes) -> str:
    """The name of the only architecture that has these shapes.

    Raises:
        UsageError: If there are none, or several that differ in what shapes do not show.
    """
    if "layer1.0.conv1.weight" in shapes:
        stem, depth = shapes.get("conv1.weight"), DEPTHS.get(_blocks(shapes, "layer", 1))
        if depth and stem == (64, 3, 7, 7):
            return f"resnet{depth}"
        told = f"its first layer is {stem}: allowed: resnet{depth}_cifar, if that has stride 1 and no pooling follows"
        raise UsageError(f"--arch is needed, as the shapes alone do not tell the network; {told if depth else ALLOWED}")
    for sign, allowed in UNTOLD.items():
        if sign in shapes:
            raise UsageError(f"--arch is needed, as {allowed}")
    raise UsageError(f"--arch is needed, as no known network has keys such as {_some(shapes)}; {ALLOWED}")


def expected(architecture: Architecture) -> Shapes:
    """The shapes of the network without its head; nothing is allocated for it."""
    with torch.device("meta"):
        model = architecture.make(0, "float32")
    return {name: tuple(each.shape) for name, each in model.state_dict().items()}


def check_fit(architecture: Architecture, shapes: Shapes) -> None:
    """Compare keys and shapes, strictly, before a network of that size is built.

    Args:
        architecture: The network.
        shapes: Of the file's tensors, without prefix and head.

    Raises:
        UsageError: At the first key that is missing, unknown or of another shape.
    """
    wanted, name = expected(architecture), architecture.name
    missing = [key for key in wanted if key not in shapes and not key.endswith(COUNTER)]
    unknown = [key for key in shapes if key not in wanted]
    if missing or unknown:
        counts = f"{len(missing)} keys are missing, {len(unknown)} are unknown"
        first = f"{shown((missing or unknown)[0])} is {'missing' if missing else 'unknown'}"
        raise UsageError(f"the keys are not those of {name}: {first} ({counts}); allowed: exactly its keys")
    for key, shape in shapes.items():
        if shape != wanted[key]:
            raise UsageError(f"{shown(key)} has the shape {shape}; allowed: {wanted[key]}, as in {name}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, weights are drawn from the seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


# ---- the families ---------------------------------------------------------------------------------------------------


def _resnet(depth: int, cifar: bool) -> Architecture:
    """torchvision's; timm's of the same name has the same keys. `cifar`: SimCLR's stem for images of 32 pixels."""

    def make(seed: int, precision: str) -> nn.Module:
        from torchvision import models

        with seeded(seed):
            model = getattr(models, f"resnet{depth}")()
            if cifar:
                model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        model.fc = nn.Identity()
        return model.to(memory_format=torch.channels_last)

    name, paths = f"resnet{depth}{'_cifar' * cifar}", [f"layer{number}" for number in (1, 2, 3, 4)]
    return Architecture(name, make, paths, "fc.", 512 if depth < 50 else 2048)


def _vision_transformer(name: str, heads: int, shapes: Shapes) -> Architecture:
    """torchvision's; all but the number of attention heads is in the shapes."""
    layer = "encoder.layers.encoder_layer_"
    patches, mlp = shapes.get("conv_proj.weight", ()), shapes.get(f"{layer}0.mlp.0.weight", ())
    tokens = shapes.get("encoder.pos_embedding", ())
    if not (len(patches) == 4 and len(mlp) == 2 and len(tokens) == 3):
        raise UsageError(f"the keys are not those of {name}; allowed: those of torchvision's VisionTransformer")
    hidden, patch, side = patches[0], patches[3], math.isqrt(max(0, tokens[1] - 1))
    count = sum(key.startswith(layer) and key.endswith(".ln_1.weight") for key in shapes)
    if not count or not side or side * side != tokens[1] - 1:
        raise UsageError(f"{name} has {count} layers, {tokens[1]} tokens here; allowed: a square and one more")
    if hidden % heads:
        raise UsageError(f"{name} with {heads} heads does not fit a width of {hidden}; allowed: a divisor of it")

    def make(seed: int, precision: str) -> nn.Module:
        from torchvision.models import VisionTransformer

        with seeded(seed):
            model = VisionTransformer(side * patch, patch, count, heads, hidden, mlp[0], num_classes=1)
        model.heads = nn.Identity()
        return model

    paths = [f"{layer}{number}" for number in _quarters(count)]
    return Architecture(name, make, paths, "heads.", hidden, side * patch, fixed=True, extra_tokens=1)


def _named_transformer(heads: str, shapes: Shapes) -> Architecture:
    if not (heads.isascii() and heads.isdigit() and 0 < int(heads) < 1000):
        raise UsageError(f"architecture 'vit:{heads}' names no number of attention heads; allowed: such as vit:3")
    return _vision_transformer(f"vit:{heads}", int(heads), shapes)


def _study(name: str, shapes: Shapes) -> Architecture:
    """An encoder of this study; all but the stride of its first layer is in the shapes."""
    kinds = {(blocks, depth == 50): depth for depth, blocks in BLOCKS.items()}
    depth, stem = kinds.get(_blocks(shapes, "stage", 1)), shapes.get("conv.weight", ())
    if depth is None or len(stem) != 4:
        raise UsageError(f"the keys are not those of {name}; allowed: an encoder of this study")
    config = EncoderConfig(depth, stem[0], STUDY_STRIDES[name])
    dimension = 8 * config.width * (4 if depth == 50 else 1)

    def make(seed: int, precision: str) -> nn.Module:
        return build_encoder(config, seed, precision)

    return Architecture(name, make, STAGES, "", dimension, STUDY_SIDE, constants=("mean", "std"))


def _timm(name: str, shapes: Shapes) -> Architecture:
    """A ResNet or vision transformer of timm, where that is installed."""
    try:
        import timm
    except ImportError:
        raise UsageError(f"architecture 'timm:{name}' needs timm; allowed: after pip install timm") from None
    base = name.partition(".")[0]
    if not timm.is_model(base):  # timm itself would go and look such a name up on the internet
        raise UsageError(f"architecture 'timm:{name}' is unknown to timm {timm.__version__}; allowed: its models")

    def make(seed: int, precision: str, **settings: int) -> nn.Module:
        with seeded(seed):
            return timm.create_model(base, pretrained=False, num_classes=0, **settings)

    with torch.device("meta"):
        model = make(0, "float32")
    classifier = (model.pretrained_cfg or {}).get("classifier")
    found = Architecture(f"timm:{name}", make, (), f"{classifier}.", model.num_features)
    if all(hasattr(model, f"layer{number}") for number in (1, 2, 3, 4)):
        return replace(found, paths=[f"layer{number}" for number in (1, 2, 3, 4)])
    if all(getattr(model, part, None) is not None for part in ("blocks", "num_prefix_tokens", "pos_embed")):
        side = _timm_side(found.name, model, shapes)
        sized = partial(make, img_size=side)
        paths = [f"blocks.{number}" for number in _quarters(len(model.blocks))]
        extra = model.num_prefix_tokens
        return replace(found, make=sized, paths=paths, size=side, fixed=True, extra_tokens=extra)
    raise UsageError(f"architecture 'timm:{name}' is no ResNet and no vision transformer; allowed: these")


def _timm_side(name: str, model: nn.Module, shapes: Shapes) -> int:
    """Side in pixels of the images whose positions the file has."""
    extra = model.pos_embed.shape[1] - model.patch_embed.num_patches  # positions of tokens that are no patches
    positions = shapes.get("pos_embed", ())
    patches = positions[1] - extra if len(positions) == 3 else 0
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise UsageError(f"the keys are not those of {name}: it has {patches} patches; allowed: a square of them")
    return math.isqrt(patches) * model.patch_embed.patch_size[0]


def _blocks(shapes: Shapes, stage: str, first: int) -> tuple[tuple[int, ...], bool]:
    """Blocks of each of four stages, and whether they are bottlenecks."""
    counts = tuple(
        sum(key.startswith(f"{stage}{number}.") and key.endswith(".conv1.weight") for key in shapes)
        for number in range(first, first + 4)
    )
    return counts, f"{stage}{first}.0.conv3.weight" in shapes


def _quarters(count: int) -> list[int]:
    """The last block of each quarter of the blocks."""
    return [max(0, math.ceil(count * quarter / 4) - 1) for quarter in (1, 2, 3, 4)]


def _some(shapes: Shapes) -> str:
    return ", ".join(shown(name) for name in list(shapes)[:3]) or "none"


NAMED: dict[str, Callable[[Shapes], Architecture]] = {
    **{f"resnet{depth}": lambda shapes, depth=depth: _resnet(depth, False) for depth in DEPTHS.values()},
    **{f"resnet{depth}_cifar": lambda shapes, depth=depth: _resnet(depth, True) for depth in DEPTHS.values()},
    **{
        name: lambda shapes, name=name, heads=heads: _vision_transformer(name, heads, shapes)
        for name, heads in VIT_HEADS.items()
    },
    **{name: lambda shapes, name=name: _study(name, shapes) for name in STUDY_STRIDES},
}
PREFIXED: dict[str, Callable[[str, Shapes], Architecture]] = {"vit": _named_transformer, "timm": _timm}
ALLOWED = f"allowed: {', '.join(NAMED)}, vit:<heads>, timm:<name>"
# A key that tells the family -> what its shapes do not tell, and the names to choose from.
UNTOLD = {
    "stage1.0.conv1.weight": f"the stride of a first layer is in no shape; allowed: {', '.join(STUDY_STRIDES)}",
    "class_token": f"the number of attention heads is in no shape; allowed: {', '.join(VIT_HEADS)}, vit:<heads>",
    "patch_embed.proj.weight": "the number of attention heads is in no shape; allowed: timm:<name>",
}
