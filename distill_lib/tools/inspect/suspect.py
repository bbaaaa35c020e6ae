"""What is inspected and with which images: an encoder from a file, a folder of clean pictures."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill_lib.defences.inversion import FEWEST
from distill_lib.errors import UsageError, choose
from distill_lib.tools.purify.images import SUFFIXES, picture
from distill_lib.vision.encoders import BLOCKS, STAGES, EncoderConfig, build_encoder
from distill_lib.vision.features import extract

ARCHITECTURES = {f"study_stem{stride}": stride for stride in (1, 2, 4)}
SIDE = 32  # pixels, of the images of every encoder of this study
LARGEST = 2**30  # bytes of a file
_BOTTLENECK = "stage1.0.conv3.weight"


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
        """How many weights it has: scores of encoders of other sizes are not compared."""
        return sum(each.numel() for each in self.encoder.parameters())


def load_suspect(path: Path | str, arch: str | None, device: torch.device) -> Suspect:
    """Read an encoder of this study.

    The file is anyone's: no format that can run code is read, and keys and shapes have to fit exactly.

    Args:
        path: A safetensors file, as the study's store holds them.
        arch: `study_stem1`, `study_stem2` or `study_stem4`: the stride of the first layer is in no shape.
        device: Where it is to run; in float32, whatever it was trained in.

    Raises:
        UsageError: If it is anything else; one sentence that names the file.
    """
    if arch is None:
        raise UsageError(f"--arch is needed, as no weights tell a layer's stride; allowed: {', '.join(ARCHITECTURES)}")
    stride = choose("architecture", arch, ARCHITECTURES)
    tensors, sha256 = _read(Path(path))
    try:
        encoder = build_encoder(_config(tensors, stride), seed=0)
        encoder.load_state_dict(tensors, strict=True)
    except (UsageError, RuntimeError, KeyError, IndexError) as error:
        why = " ".join(str(error).split())[:160]
        raise UsageError(f"encoder {str(path)!r} is none of this study ({why}); allowed: {arch}'s own keys") from None
    if not all(each.isfinite().all() for each in tensors.values()):
        raise UsageError(f"encoder {str(path)!r} has weights that are not finite; allowed: one that works")
    return Suspect(encoder.to(device).eval(), SIDE, sha256)


def load_images(folder: Path | str, side: int) -> Tensor:
    """Read a folder of clean pictures, in the order of their names.

    Args:
        folder: Holds png or jpg files; others are passed over.
        side: Each is cut to a square around its middle and resized to so many pixels.

    Returns:
        uint8 (N, 3, S, S).

    Raises:
        UsageError: If there are fewer than 16 readable ones.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"--images {str(folder)!r} is not a folder; allowed: one with {FEWEST} images or more")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    found = [picture for picture in (_picture(path, side) for path in files) if picture is not None]
    if len(found) < FEWEST:
        raise UsageError(
            f"--images {str(folder)!r} has {len(found)} readable images; allowed: {FEWEST} or more, "
            f"{', '.join(SUFFIXES)}"
        )
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def check_works(suspect: Suspect, images: Tensor, path: object) -> None:
    """See whether the encoder tells images (N, 3, S, S), uint8, apart at all.

    Raises:
        UsageError: If its features are not finite, or the same for all.
    """
    features = extract(suspect.encoder, images[:FEWEST])
    if not features.isfinite().all() or not (features - features[:1]).abs().max() > 0:
        raise UsageError(
            f"encoder {str(path)!r} gives features that are not finite or all the same; allowed: one that works"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST or path.suffix.lower() != ".safetensors":
            raise UsageError(
                f"encoder {str(path)!r} is refused; allowed: a .safetensors file of at most {LARGEST:,} bytes"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"encoder {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        return load(content), hashlib.sha256(content).hexdigest()
    except (SafetensorError, ValueError, KeyError) as error:
        raise UsageError(f"encoder {str(path)!r} is no safetensors file ({error}); allowed: a whole one") from None


def _config(tensors: Mapping[str, Tensor], stride: int) -> EncoderConfig:
    """Depth and width, as the keys and shapes tell them."""
    counts = tuple(
        sum(key.startswith(f"{stage}.") and key.endswith(".conv1.weight") for key in tensors) for stage in STAGES
    )
    depths = {(blocks, depth == 50): depth for depth, blocks in BLOCKS.items()}
    depth = depths.get((counts, _BOTTLENECK in tensors))
    if depth is None or "conv.weight" not in tensors:
        raise UsageError(f"{counts} blocks in {len(STAGES)} stages are no depth of this study")
    return EncoderConfig(depth, int(tensors["conv.weight"].shape[0]), stride)


def _picture(path: Path, side: int) -> np.ndarray | None:
    """Pixels uint8 (S, S, 3) of one file; None where it is no image, or an unreasonable one."""
    try:
        return picture(path, side)
    except Exception:  # parsers fail on damaged files in any way they like
        return None
