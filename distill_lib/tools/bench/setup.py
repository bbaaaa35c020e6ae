"""What is timed on a CPU and on a GPU: encoder, batches, images."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from distill_lib.training.device import generator
from distill_lib.vision.encoders import Encoder, EncoderConfig, build_encoder
from distill_lib.vision.wide_resnet import WIDE_RESNETS, WideResNet, WideResNetConfig, build_wide_resnet

CLASSES = 10
SMALL = EncoderConfig(10, 16, 2)  # of `quick` and `laptop`
PAPERS = EncoderConfig(18, 64, 1)  # of `gpu` and `paper`


@dataclass(frozen=True)
class DataFree:
    """The data-free methods' work; batches as published.

    Attributes:
        teacher: Teacher's size.
        student: Student's size.
        channels: Of the generators; as in `laptop`.
        ood_batch: Patches a step.
        zskt_batch: Images a turn.
        cmi_images: Images of a generator step of CMI.
        cmi_batch: Images of a student step of CMI.
        cmi_steps: Steps of generator and student in a round, a fiftieth of the published 200 and 400.
    """

    teacher: WideResNetConfig = WIDE_RESNETS["wrn16_2_small"]
    student: WideResNetConfig = WIDE_RESNETS["wrn16_1_small"]
    channels: tuple[int, int] = (32, 16)
    ood_batch: int = 512
    zskt_batch: int = 128
    cmi_images: int = 256
    cmi_batch: int = 128
    cmi_steps: tuple[int, int] = (4, 8)


AS_PUBLISHED = DataFree(WIDE_RESNETS["wrn16_2"], WIDE_RESNETS["wrn16_1"], (128, 64), cmi_steps=(20, 40))


@dataclass(frozen=True)
class Setup:
    """One machine's work; batches as published, but the head's (64 there), which is that of the study's profiles.

    Attributes:
        device: Where it runs.
        precision: Of the library's encoders: `bf16` where the hardware is fast at it. The reference's are float32.
        encoder: The same for both sides.
        simclr_batch: Images a step of the pre-training, two views each.
        badencoder_batch: Images a step of the injection.
        distillation_batch: Images a step of the distillation, two views each.
        head_batch: Features a step of the head.
        images: Random images that everything is timed on; what is in a picture does not change its cost.
        flatness: Sizes of the image sets on which the cost of a view is compared.
        priced_batch: Images a step where the cost of a view is measured for every profile's encoder.
        matrix: Side of the square matrices whose product gives the device's rate.
        data_free: Sizes of the data-free methods.
    """

    device: torch.device
    precision: str
    encoder: EncoderConfig = SMALL
    simclr_batch: int = 256
    badencoder_batch: int = 256
    distillation_batch: int = 128
    head_batch: int = 256
    images: int = 2_000
    flatness: tuple[int, ...] = (10_000, 30_000, 100_000)
    priced_batch: int = 64
    matrix: int = 2_048
    data_free: DataFree = field(default_factory=DataFree)

    def pictures(self, count: int | None = None) -> Tensor:
        """Random images, uint8 (N, 3, 32, 32), on the device."""
        shape = (count or self.images, 3, 32, 32)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator(0, self.device), device=self.device)

    def labels(self) -> Tensor:
        """Random labels (N,)."""
        return torch.randint(CLASSES, (self.images,), generator=generator(1, self.device), device=self.device)

    def fresh(self, seed: int = 0, precision: str | None = None) -> Encoder:
        """An encoder with random weights."""
        return build_encoder(self.encoder, seed, precision or self.precision).to(self.device)

    def classifiers(self, precision: str | None = None) -> tuple[WideResNet, WideResNet]:
        """Teacher and student of the data-free methods, with random weights."""
        sizes = (self.data_free.teacher, self.data_free.student)
        teacher, student = (
            build_wide_resnet(size, seed, precision or self.precision) for seed, size in enumerate(sizes)
        )
        return teacher.to(self.device), student.to(self.device)


def on_cpu(device: torch.device, precision: str) -> Setup:
    """The small encoder of the profiles `quick` and `laptop`."""
    return Setup(device, precision)


def on_gpu(device: torch.device, precision: str) -> Setup:
    """The papers' encoder."""
    return Setup(device, precision, PAPERS, images=10_000, priced_batch=256, matrix=8_192, data_free=AS_PUBLISHED)


SETUPS = {"cpu": on_cpu, "cuda": on_gpu}
