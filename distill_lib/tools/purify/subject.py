"""The encoder under repair: one interface over every architecture, made anew as often as a recipe needs it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError
from distill_lib.tools.purify.architectures import COUNTER, Architecture, check_fit, prefix_of, resolve, seeded
from distill_lib.tools.purify.checkpoint import Checkpoint
from distill_lib.tools.purify.refusal import shown
from distill_lib.vision.encoders import PRECISIONS, STAGES
from distill_lib.vision.features import hooked, to_unit

SIDES = (16, 1024)  # pixels
# Published normalisations, by name.
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
Triple = tuple[float, float, float]


class Tokens(nn.Module):
    """A transformer's tokens (B, N, D) as a map (B, D, side, side), without the extra ones at the front."""

    def __init__(self, extra: int):
        super().__init__()
        self.extra = extra

    def forward(self, tokens: Tensor) -> Tensor:
        """The map, a view of the tokens."""
        own = tokens[:, self.extra :].transpose(1, 2)
        return own.unflatten(2, (math.isqrt(own.shape[2]), -1))


class Subject(nn.Module):
    """An encoder as the study's own are: images in [0, 1] to (B, D), four stages with maps at known hook paths.

    Attributes:
        model: The network, under the file's own names.
        dimension: D.
        autocast: Whether it runs in bf16.
    """

    def __init__(self, model: nn.Module, architecture: Architecture, mean: Triple, std: Triple, precision: str):
        super().__init__()
        self.model, self.paths, self.dimension = model, tuple(architecture.paths), architecture.dimension
        self.autocast = PRECISIONS[precision]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        for stage in STAGES:
            extra = architecture.extra_tokens
            self.add_module(stage, nn.Identity() if extra is None else Tokens(extra))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D), float32, of images (B, 3, H, W) in [0, 1]."""
        bf16 = torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast)
        with bf16, hooked(self.model, self.paths) as maps:
            output = self.model((images - self.mean) / self.std)
            for stage, path in zip(STAGES, self.paths, strict=True):
                self.get_submodule(stage)(maps[path])  # for whoever has a hook there
        return output.float()


@dataclass(frozen=True)
class Blueprint:
    """How the encoder of a checkpoint is built.

    Attributes:
        checkpoint: Where its weights are.
        architecture: Its network.
        prefix: Before each of its keys in the file.
        size: Side of its images in pixels.
        mean: Of the normalisation, by channel.
        std: Likewise.
        precision: `float32` or `bf16`.
        device: Where it runs.
        notes: What was inferred, in words.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    prefix: str
    size: int
    mean: Triple
    std: Triple
    precision: str
    device: torch.device
    notes: tuple[str, ...]

    def weights(self) -> dict[str, Tensor]:
        """The file's tensors under the network's names, the head's left out."""
        return _without_head(self.checkpoint.tensors, self.prefix, self.architecture)

    def fresh(self, seed: int) -> Subject:
        """An encoder of random weights; its normalisation is the file's."""
        model = self.architecture.make(seed, self.precision)
        constants = {name: self.weights()[name] for name in self.architecture.constants}
        model.load_state_dict(constants, strict=False)
        with seeded(seed):
            subject = Subject(model, self.architecture, self.mean, self.std, self.precision)
        return subject.to(self.device)

    def suspect(self) -> Subject:
        """The encoder as it is in the file, in eval mode."""
        subject = self.fresh(0)
        subject.model.load_state_dict(self.weights(), strict=False)  # `check_fit` was strict, but for old counters
        return subject.eval()

    def tensors(self, subject: Subject) -> dict[str, Tensor]:
        """The file's tensors with the weights of `subject`: the same names, shapes and types, the head as it was.

        Raises:
            UsageError: If the repaired weights are not finite in the file's type.
        """
        repaired, result = subject.model.state_dict(), {}
        for name, old in self.checkpoint.tensors.items():
            new = repaired.get(name[len(self.prefix) :])
            if new is None or self.in_head(name):
                result[name] = old
                continue
            result[name] = new.detach().to("cpu", old.dtype, copy=True, memory_format=torch.contiguous_format)
            if not result[name].isfinite().all():
                raise UsageError(f"the repaired {shown(name)} is not finite in {old.dtype}; allowed: another recipe")
        return result

    def in_head(self, name: str) -> bool:
        """Whether a name of the file is of the classification head."""
        head = self.architecture.head
        return bool(head) and name[len(self.prefix) :].startswith(head)


def check_normalisation(mean: Triple | None, std: Triple | None) -> None:
    """See whether these can be a normalisation.

    Raises:
        UsageError: If a number is missing or out of range.
    """
    for name, values, low in (("mean", mean, -10.0), ("std", std, 1e-3)):
        if values is not None and not (len(values) == 3 and all(low <= each <= 10 for each in values)):
            raise UsageError(f"{name} {values} is impossible; allowed: three numbers from {low:g} to 10")


def draw_up(
    checkpoint: Checkpoint,
    arch: str | None,
    size: int | None,
    normalisation: tuple[Triple | None, Triple | None],
    device: torch.device,
    precision: str,
) -> Blueprint:
    """Find out how the encoder of a checkpoint is built.

    Args:
        checkpoint: Its weights.
        arch: Named by the user, or None.
        size: Side of its images in pixels, likewise.
        normalisation: Mean and standard deviation by channel, likewise.
        device: Where it is to run.
        precision: In what.

    Raises:
        UsageError: If something is needed that neither the user nor the weights say, or the weights do not fit.
    """
    try:
        names = list(checkpoint.tensors)
        prefix = prefix_of(names)
        shapes = {name[len(prefix) :]: tuple(each.shape) for name, each in checkpoint.tensors.items()}
        architecture = resolve(arch, shapes)
        weights = _without_head(checkpoint.tensors, prefix, architecture)
        check_fit(architecture, {name: shapes[name] for name in weights})
        odd = [name for name, each in weights.items() if each.is_floating_point() == name.endswith(COUNTER)]
        if odd:
            raise UsageError(f"{shown(odd[0])} is {weights[odd[0]].dtype}; allowed: floats, and whole counters")
        mean, std = _normalisation(architecture, *normalisation)
        notes = _notes(checkpoint, architecture, prefix, arch, size)
        parts = (checkpoint, architecture, prefix, _size(architecture, size), mean, std, precision, device, notes)
    except UsageError as error:
        raise UsageError(f"checkpoint {str(checkpoint.path)!r}: {error}") from None
    return Blueprint(*parts)


@torch.no_grad()
def check_output(subject: Subject, images: Tensor, path: object) -> None:
    """See whether the encoder tells images (N, 3, H, W), uint8, apart at all.

    Raises:
        UsageError: If its output is not finite, not (N, D), or the same for all.
    """
    try:
        output = subject.eval()(to_unit(images))
    except RuntimeError:  # a map vanishes in a network too deep for images so small
        raise UsageError(f"checkpoint {str(path)!r} does not run on such images; allowed: another --size") from None
    good = output.shape == (len(images), subject.dimension) and output.isfinite().all()
    if not good or not (output - output[:1]).abs().max() > 0:
        raise UsageError(f"checkpoint {str(path)!r} gives no usable features: they are not finite or all the same; "
                         "allowed: an encoder that works, with its own --arch, --size, --mean and --std")  # fmt: skip


def _without_head(tensors: Mapping[str, Tensor], prefix: str, architecture: Architecture) -> dict[str, Tensor]:
    head = architecture.head
    named = {name[len(prefix) :]: each for name, each in tensors.items()}
    return {name: each for name, each in named.items() if not (head and name.startswith(head))}


def _size(architecture: Architecture, size: int | None) -> int:
    if size is None and architecture.size is None:
        raise UsageError(f"--size is needed, as {architecture.name} takes images of any size; allowed: that of its "
                         "training images in pixels, such as 224 or 32")  # fmt: skip
    side = size or architecture.size
    if architecture.fixed and side != architecture.size:
        raise UsageError(f"--size {side} does not fit these weights; allowed: {architecture.size}")
    if not SIDES[0] <= side <= SIDES[1]:
        raise UsageError(f"images of {side} pixels are impossible; allowed: {SIDES[0]} to {SIDES[1]}")
    return side


def _normalisation(architecture: Architecture, mean: Triple | None, std: Triple | None) -> tuple[Triple, Triple]:
    if architecture.constants:
        if mean or std:
            raise UsageError(f"--mean and --std are part of {architecture.name}; allowed: neither")
        return NORMALISATIONS["none"]
    if not mean or not std:
        raise UsageError(f"--mean and --std are needed, as no weights say how images were normalised; allowed: three "
                         f"numbers such as 0.5,0.5,0.5, or {', '.join(NORMALISATIONS)}")  # fmt: skip
    return mean, std


def _notes(checkpoint: Checkpoint, architecture: Architecture, prefix: str, arch: str | None, size: int | None):
    """What was found out, in words."""
    head = architecture.head
    carried = sum(bool(head) and name.startswith(prefix + head) for name in checkpoint.tensors)
    told: Sequence[tuple[object, str]] = (
        (arch is None, f"architecture {architecture.name}, from the keys and shapes"),
        (prefix, f"every key begins with {prefix!r}"),
        (architecture.constants, "the normalisation is among the weights"),
        (size is None and architecture.size, f"images of {architecture.size} pixels"),
        (carried, f"{carried} keys of a classification head ({head}*) are carried over unchanged"),
    )
    return (*checkpoint.notes, *(words for holds, words in told if holds))
