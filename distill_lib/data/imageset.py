"""One data set as one uint8 tensor: what every other part of the library reads images from."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and labels of one split, whole in memory.

    Attributes:
        name: Name of the data set ("cifar10").
        split: "train", "test" or "unlabelled".
        images: uint8 (N, 3, H, W), contiguous, values 0 to 255.
        labels: int64 (N,); -1 where there is no label.
        classes: Class names, index = label; () for an unlabelled split.
        source: "builtin", "archive" or "torchvision".
        groups: int64 (N,) or None; near-duplicates (GTSRB tracks, renderings of one digit) share a group.
    """

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    source: str
    groups: torch.Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W), not {self.images.dtype} {shape}")
        for what, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and (values.dtype != torch.int64 or tuple(values.shape) != shape[:1]):
                raise ValueError(f"{what} must be int64 ({shape[0]},), not {values.dtype} {tuple(values.shape)}")
        if not self.images.is_contiguous():
            object.__setattr__(self, "images", self.images.contiguous())

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of shape, pixels, labels and groups: what a result records of its data."""
        sha = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        sha.update(self.images.cpu().numpy().data)
        sha.update(self.labels.cpu().numpy().astype("<i8").data)
        if self.groups is not None:  # they decide which images are held out
            sha.update(self.groups.cpu().numpy().astype("<i8").data)
        return sha.hexdigest()

    def subset(self, index) -> "ImageSet":
        """The images at `index`, in that order.

        Args:
            index: Integers or a boolean mask over the images (tensor, array, list or range), or a slice.
        """
        if not isinstance(index, slice):
            index = torch.as_tensor(np.asarray(index) if isinstance(index, (list, tuple, range)) else index)
            if index.dtype != torch.bool:
                index = index.long()  # an empty list arrives as float
            index = index.to(self.images.device)
        groups = None if self.groups is None else self.groups[index]
        return replace(self, images=self.images[index], labels=self.labels[index], groups=groups)

    def to(self, device) -> "ImageSet":
        """The same set on another device; itself when it is there already."""
        if self.images.device == torch.device(device):
            return self
        groups = None if self.groups is None else self.groups.to(device)
        moved = replace(self, images=self.images.to(device), labels=self.labels.to(device), groups=groups)
        if "digest" in self.__dict__:  # the same bytes: no need to hash them again
            moved.__dict__["digest"] = self.digest
        return moved
