"""What is inspected: an encoder from a file, read with the same suspicion as one that is to be repaired."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from distill_lib.defences.inversion import FEWEST
from distill_lib.errors import UsageError
from distill_lib.tools.purify import checkpoint
from distill_lib.tools.purify.subject import Triple, check_normalisation, check_output, draw_up


@dataclass(frozen=True)
class Kind:
    """What weights alone do not tell; None: inferred where they leave no doubt.

    Attributes:
        arch: The network, as `purify` names it.
        size: Side of its images in pixels.
        mean: Its normalisation by channel, of images in [0, 1].
        std: Likewise.
    """

    arch: str | None = None
    size: int | None = None
    mean: Triple | None = None
    std: Triple | None = None

    def __post_init__(self):
        check_normalisation(self.mean, self.std)


@dataclass(frozen=True)
class Suspect:
    """An encoder and what is known of it.

    Attributes:
        encoder: From images in [0, 1] to (B, D), in eval mode.
        side: Of its images, in pixels.
        sha256: Of the file, hex.
    """

    encoder: nn.Module
    side: int
    sha256: str

    @property
    def parameters(self) -> int:
        """How many weights it has, without a classification head: scores of other sizes are not compared."""
        return sum(each.numel() for each in self.encoder.parameters())


def load_suspect(path: Path | str, kind: Kind, device: torch.device) -> Suspect:
    """Read an encoder; the file is anyone's.

    Args:
        path: A checkpoint, as `checkpoint.read` takes it.
        kind: What it is of.
        device: Where it is to run; in float32, whatever it was trained in.

    Raises:
        UsageError: If it is refused, or something is needed that neither it nor `kind` tells; one sentence that names
            the file.
    """
    found = checkpoint.read(path)
    blueprint = draw_up(found, kind.arch, kind.size, (kind.mean, kind.std), device, "float32")
    return Suspect(blueprint.suspect(), blueprint.size, found.sha256)


def check_works(suspect: Suspect, images: Tensor, path: object) -> None:
    """See whether the encoder tells images (N, 3, S, S), uint8, apart at all.

    Raises:
        UsageError: If its features are not finite, or the same for all.
    """
    check_output(suspect.encoder, images[:FEWEST], path)


def check_alike(subject: Suspect, other: Suspect, option: str) -> None:
    """See whether an encoder given beside is of the same kind.

    Raises:
        UsageError: If it is larger or smaller, or takes other images.
    """
    for what, theirs, mine in (
        ("parameters", other.parameters, subject.parameters), ("pixels a side", other.side, subject.side)
    ):  # fmt: skip
        if theirs != mine:
            raise UsageError(f"{option} has {theirs:,} {what}, the encoder {mine:,}; allowed: encoders of one size")
