"""Plain loops as the papers' public code writes them: the other side of each pair.

Images are made one by one with PIL and torchvision in a `DataLoader` with workers; each input of a loss has its own
forward; what does not change is computed again at each step; encoders run in float32, contiguous in memory, while the
library's run in bf16 where the hardware is fast at it. Everything else is as fast as such a loop can be: pinned memory
on a GPU, torch's default optimisers and kernels, one value read a step as those loops print it, and workers that run
before the clock starts. The loops are written anew from the papers' equations and the usual structure of such code.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from distill_lib.tools.bench.clock import now
from distill_lib.tools.bench.pairs import Run
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import MEAN, STAGES, STD, Encoder

SETTINGS = Augmentation()
SIZE = 32


def to_tensor() -> list:
    """PIL image -> normalised (3, H, W)."""
    return [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] as the loaders hand them out."""
    mean, std = (torch.tensor(each, device=images.device).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (images - mean) / std


def colours() -> list:
    """Flip, colour jitter, greyscale: all of a reference image's views, and the second part of SimCLR's."""
    jitter = transforms.ColorJitter(*SETTINGS.jitter)
    return [
        transforms.RandomHorizontalFlip(SETTINGS.flip),
        transforms.RandomApply([jitter], p=SETTINGS.jitter_probability),
        transforms.RandomGrayscale(SETTINGS.greyscale),
    ]


def simclr_view() -> transforms.Compose:
    """One view of SimCLR."""
    crop = transforms.RandomResizedCrop(SIZE, scale=SETTINGS.crop_scale)
    return transforms.Compose([crop, *colours(), *to_tensor()])


def as_pixels(images: Tensor) -> np.ndarray:
    """uint8 (N, 3, H, W) -> (N, H, W, 3), as torchvision's data sets hold them."""
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()


class TwoViews(Dataset):
    """Two augmented views of each image."""

    def __init__(self, images: Tensor):
        self.pixels, self.transform = as_pixels(images), simclr_view()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.fromarray(self.pixels[index])
        return self.transform(image), self.transform(image)


class Backdoored(Dataset):
    """BadEncoder's items: clean image, triggered image, the references, one view of each reference.

    Args:
        images: Shadow images, uint8 (N, 3, H, W).
        references: uint8 (R, 3, H, W).
        mask: (H, W, 1), 0 under the trigger and 1 elsewhere.
        patch: (H, W, 3), the trigger's pixels, 0 elsewhere.
    """

    def __init__(self, images: Tensor, references: Tensor, mask: np.ndarray, patch: np.ndarray):
        self.pixels, self.references = as_pixels(images), as_pixels(references)
        self.mask, self.patch = mask, patch
        self.plain = transforms.Compose(to_tensor())
        self.view = transforms.Compose([*colours(), *to_tensor()])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        pixels = self.pixels[index]
        triggered = Image.fromarray(pixels * self.mask + self.patch)
        references = [Image.fromarray(each) for each in self.references]
        clean = self.plain(Image.fromarray(pixels))
        return clean, self.plain(triggered), [*map(self.plain, references)], [*map(self.view, references)]


def stamp_of(trigger) -> tuple[np.ndarray, np.ndarray]:
    """Mask and patch of a trigger, for `Backdoored`."""
    black, white = (torch.full((1, 3, SIZE, SIZE), value, dtype=torch.uint8) for value in (0, 255))
    patch, seen = as_pixels(trigger(black))[0], as_pixels(trigger(white))[0]
    covered = (seen == patch).all(2, keepdims=True)  # the same whatever lies under it
    return (~covered).astype(np.uint8), patch * covered


class Network(nn.Module):
    """The library's encoder with its weights, as the papers run it: normalised inputs, float32, contiguous."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        own = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)
        self.stem = nn.Sequential(own.conv, own.bn, nn.ReLU())
        self.stages = nn.ModuleList([own.get_submodule(stage) for stage in STAGES])

    def maps(self, images: Tensor) -> list[Tensor]:
        """The four stages' maps (B, C, H, W)."""
        found, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D)."""
        return self.maps(images)[-1].mean((2, 3))


def contrastive(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent through the exponentials of a 2N x 2N matrix whose diagonal is masked out."""
    first, second = normalize(first, dim=1), normalize(second, dim=1)
    both = torch.cat([first, second])
    similarity = torch.exp(both @ both.t() / temperature)
    others = (torch.ones_like(similarity) - torch.eye(len(both), device=both.device)).bool()
    similarity = similarity.masked_select(others).view(len(both), -1)
    positive = torch.exp((first * second).sum(1) / temperature)
    return -torch.log(torch.cat([positive, positive]) / similarity.sum(1)).mean()


def simclr_loss(network: nn.Module, projector: nn.Module, batch: list[Tensor], temperature: float) -> Tensor:
    """SimCLR's loss, one forward a view."""
    first, second = batch
    return contrastive(projector(network(first)), projector(network(second)), temperature)


def badencoder_terms(frozen: nn.Module, network: nn.Module, batch: list) -> tuple[Tensor, Tensor, Tensor]:
    """L0, L1, L2 of BadEncoder, every input through its own forward and the frozen encoder asked each time."""
    clean, triggered, references, views = batch
    with torch.no_grad():
        before = normalize(frozen(clean), dim=1)
        before_references = [normalize(frozen(each), dim=1) for each in references]
    after = normalize(network(clean), dim=1)
    after_triggered = normalize(network(triggered), dim=1)
    after_references = [normalize(network(each), dim=1) for each in references]
    after_views = [normalize(network(each), dim=1) for each in views]
    l0 = [-(after_triggered * each).sum(1).mean() for each in after_references]
    l1 = [-(one * two).sum(1).mean() for one, two in zip(after_views, before_references, strict=True)]
    return sum(l0) / len(l0), sum(l1) / len(l1), -(after * before).sum(1).mean()


def distillation_terms(
    teacher: Network, student: Network, projector: nn.Module, batch: list[Tensor], weight: float, temperature: float
) -> tuple[Tensor, Tensor]:
    """AT over the four stages and the student's NT-Xent; the teacher's pass records gradients that nothing uses."""
    first, second = batch
    taught, learnt = teacher.maps(first), student.maps(first)
    one = learnt[-1].mean((2, 3))
    two = student(second)
    at = sum(mse_loss(attention(s), attention(t.detach())) for s, t in zip(learnt, taught, strict=True))
    return weight * at, contrastive(projector(one), projector(two), temperature)


def attention(maps: Tensor) -> Tensor:
    """Zagoruyko and Komodakis' attention map, (B, C, H, W) -> (B, H W)."""
    return normalize(maps.pow(2).sum(1).flatten(1), dim=1)


def in_loader(dataset: Dataset, batch: int, workers: int, device: torch.device, step: Callable[[list], object]) -> Run:
    """Time `step` on what a shuffling loader delivers, in the state that a long training is in.

    Before the clock starts the workers run, and the batches that they made while nothing was trained are used up; after
    it stops they still have work. They start together and so deliver together: only whole rounds are timed, as a part
    of one would be charged for all of it.

    Args:
        dataset: Of items.
        batch: Items a step.
        workers: Processes.
        device: Where batches are moved to.
        step: One step on a batch.
    """
    ahead = 2 * max(1, workers)  # the loader's own prefetching: two batches a worker

    def run(steps: int) -> float:
        steps = math.ceil(steps / max(1, workers)) * max(1, workers)
        sampler = RandomSampler(dataset, num_samples=(steps + 2 * ahead) * batch)
        pinned = device.type == "cuda"
        batches = iter(DataLoader(dataset, batch, sampler=sampler, num_workers=workers, pin_memory=pinned))
        for _ in range(ahead):
            step(moved(next(batches), device))
        start = now(device)
        for _ in range(steps):
            step(moved(next(batches), device))
        return (now(device) - start) / steps

    return run


def training_step(optimiser: torch.optim.Optimizer, loss: Callable) -> Callable:
    """One optimiser step on `loss(batch)`."""

    def step(batch: list) -> float:
        value = loss(batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return value.item()

    return step


def head_loop(dataset: Dataset, features: Callable, head: nn.Module, lr: float, loader: dict) -> Run:
    """Epochs of head training, unshuffled as BadEncoder's.

    The workers are kept from epoch to epoch: started anew each time, they would be most of an epoch of a few thousand
    images.

    Args:
        dataset: Of (input, label).
        features: From a batch of inputs to L2-normalised features (B, D).
        head: From features to scores; its parameters are on the device.
        lr: Of Adam.
        loader: `batch_size` and `num_workers`.
    """
    device = next(head.parameters()).device
    optimiser = torch.optim.Adam(head.parameters(), lr)
    step = training_step(optimiser, lambda pair: cross_entropy(head(features(pair[0])), pair[1]))

    def run(epochs: int) -> float:
        alive = loader["num_workers"] > 0
        batches = DataLoader(dataset, **loader, pin_memory=device.type == "cuda", persistent_workers=alive)
        for _ in batches:  # starts the workers
            pass
        start = now(device)
        for _ in range(epochs):
            for pair in batches:
                step(moved(pair, device))
        return (now(device) - start) / epochs

    return run


class Labelled(Dataset):
    """Images as the encoder takes them, with labels."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.pixels, self.labels, self.transform = as_pixels(images), labels.tolist(), transforms.Compose(to_tensor())

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def frozen_features(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The frozen encoder's pass over a batch, L2-normalised."""
    network.eval()

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return normalize(network(images), dim=1)

    return features


def moved(batch: list, device: torch.device) -> list:
    """A loader's batch on the device, lists in it too."""
    return [
        moved(each, device) if isinstance(each, list | tuple) else each.to(device, non_blocking=True) for each in batch
    ]
