"""The library's own functions, called as the study calls them, timed: one side of each pair."""

from dataclasses import replace

import torch
from torch import Tensor

from distill_lib.attacks.badencoder import BadEncoderConfig, inject
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.evaluation.probes import HeadConfig, train_head
from distill_lib.tools.bench.clock import now
from distill_lib.tools.bench.pairs import PARTS, Run
from distill_lib.tools.bench.setup import CLASSES, Setup
from distill_lib.training.device import generator
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import SimCLRConfig, simclr, two_views
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import corner_patch

# Of `quick`, the fewest: over these epochs the one pass that gives the frozen features is spread.
INJECTION_EPOCHS, HEAD_EPOCHS = 2, 30


class Stamps:
    """What a training reports to: the times of its reports."""

    def __init__(self, device: torch.device):
        self.device, self.seen = device, []

    def __call__(self, step: int, _steps: int, _terms: dict) -> None:
        self.seen.append((step, now(self.device)))

    def seconds_a_step(self) -> float:
        """Between the first report and the last."""
        (first, start), (last, end) = self.seen[0], self.seen[-1]
        return (end - start) / (last - first)


def timed(setup: Setup, train) -> Run:
    """Time `train(steps, watch)`, one of the library's trainings."""

    def run(steps: int) -> float:
        stamps = Stamps(setup.device)
        train(steps, Watch(report=stamps, log_points=PARTS))
        return stamps.seconds_a_step()

    return run


def simclr_steps(setup: Setup, precision: str | None = None, images: Tensor | None = None) -> Run:
    """Steps of the pre-training."""
    encoder = setup.fresh(precision=precision)
    images = setup.pictures() if images is None else images

    def train(steps: int, watch: Watch) -> None:
        simclr(encoder, images, SimCLRConfig(Schedule(steps, setup.simclr_batch)), 0, watch)

    return timed(setup, train)


def badencoder_steps(setup: Setup) -> Run:
    """Steps of the injection, each with its part of the one pass that gives the frozen features."""
    encoder, images = setup.fresh(), setup.pictures()
    shadow, references = images[: 4 * setup.badencoder_batch], images[:1]
    schedule = Schedule(1, setup.badencoder_batch, "sgd", weight_decay=5e-4)

    def train(steps: int, watch: Watch) -> None:
        config = BadEncoderConfig(replace(schedule, steps=steps))
        inject(encoder, shadow, corner_patch(), references, config, 0, watch)

    steps_alone = timed(setup, train)

    def run(steps: int) -> float:
        start = now(setup.device)
        extract(encoder, shadow[: setup.badencoder_batch])
        return (now(setup.device) - start) / INJECTION_EPOCHS + steps_alone(steps)

    return run


def distillation_steps(setup: Setup) -> Run:
    """Steps of the distillation with AT."""
    teacher, student, images = setup.fresh(0), setup.fresh(1), setup.pictures()

    def train(steps: int, watch: Watch) -> None:
        distil(teacher, student, images, DistilConfig(Schedule(steps, setup.distillation_batch)), 0, watch)

    return timed(setup, train)


def head_epochs(setup: Setup) -> Run:
    """Epochs of the head on cached features, each with its part of the one pass that makes them."""
    encoder, images, labels = setup.fresh(), setup.pictures(), setup.labels()

    def run(epochs: int) -> float:
        start = now(setup.device)
        features = extract(encoder, images)
        once = now(setup.device) - start
        start = now(setup.device)
        train_head(features, labels, CLASSES, HeadConfig(epochs=epochs, batch=setup.head_batch), 0)
        return once / HEAD_EPOCHS + (now(setup.device) - start) / epochs

    return run


def views(setup: Setup) -> Run:
    """Both views of a batch, nothing else."""
    images, augmentation, draws = setup.pictures(), Augmentation(), generator(0, setup.device)

    def run(steps: int) -> float:
        start = now(setup.device)
        for _ in range(steps):
            rows = torch.randint(len(images), (setup.simclr_batch,), generator=draws, device=setup.device)
            two_views(images, rows, augmentation, draws)
        return (now(setup.device) - start) / steps

    return run


def fixed_views(setup: Setup) -> Tensor:
    """Views (2 B, 3, H, W) that the limit is measured on."""
    draws = generator(0, setup.device)
    rows = torch.arange(min(setup.simclr_batch, setup.images), device=setup.device)
    return two_views(setup.pictures(), rows, Augmentation(), draws)


def bare_steps(setup: Setup) -> Run:
    """The encoder's forward and backward on fixed views: what no training loop can be faster than."""
    encoder, fixed = setup.fresh().train(), fixed_views(setup)

    def run(steps: int) -> float:
        start = now(setup.device)
        for _ in range(steps):
            encoder.zero_grad(set_to_none=True)
            encoder(fixed).sum().backward()
        return (now(setup.device) - start) / steps

    return run


def matmuls(setup: Setup) -> Run:
    """Products of two square matrices in the encoders' precision."""
    kind = torch.bfloat16 if setup.precision == "bf16" else torch.float32
    draws = generator(0, setup.device)
    one, two = (
        torch.randn(setup.matrix, setup.matrix, generator=draws, device=setup.device).to(kind) for _ in range(2)
    )

    def run(steps: int) -> float:
        start = now(setup.device)
        for _ in range(steps):
            one @ two
        return (now(setup.device) - start) / steps

    return run


def step_flops(setup: Setup) -> int:
    """Floating-point operations of the encoder's forward and backward in a SimCLR step."""
    from torch.utils.flop_counter import FlopCounterMode

    encoder, fixed = setup.fresh().train(), fixed_views(setup)
    with FlopCounterMode(display=False) as counter:
        encoder(fixed).sum().backward()
    return counter.get_total_flops()
