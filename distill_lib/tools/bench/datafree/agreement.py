"""The data-free reference loops compute the library's losses, on one batch, in float32.

Each comparison gives rows of a loss's name, the library's value from the log of its own training function, and the
reference's. What the library draws is drawn again here, in its order; pictures of the reference go through files.
"""

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.utils.data import default_collate

from distill_lib.datafree.cmi import CMIConfig, cmi
from distill_lib.datafree.generator import GeneratorConfig, build_generator
from distill_lib.datafree.ood import OODConfig, beta_quantiles, cutmix, mixed, ood
from distill_lib.datafree.zskt import ZSKTConfig, zskt
from distill_lib.tools.bench.datafree import reference
from distill_lib.tools.bench.reference import moved, normalised, training_step
from distill_lib.tools.bench.setup import CLASSES, Setup
from distill_lib.training.device import generator
from distill_lib.training.loop import Schedule
from distill_lib.training.simclr import Projector
from distill_lib.vision.augment import Augmentation, resample
from distill_lib.vision.crop_flip import CropFlip
from distill_lib.vision.features import to_unit
from distill_lib.vision.wide_resnet import WideResNet

BATCH, SEED = 16, 0
STILL = 1e-12  # learning rate of a generator that is to stay where it is
SMALL = 1e-4  # of a student's Adam, whose first step is the gradients' sign: of rounding too, where they are near 0

Row = tuple[str, float, float]


def compare(setup: Setup) -> Iterator[Row]:
    """Every loss of the data-free rows: name, the library's value, the reference's."""
    for method in (_ood, _fixed_ood, _zskt, _cmi):
        yield from method(setup)


def _networks(setup: Setup) -> tuple[WideResNet, WideResNet, reference.Classifier, reference.Classifier]:
    """Teacher and student of the library and of the reference.

    They all name the first class, so that CMI's adversarial term, of images on which they agree, is not empty.
    """
    networks = setup.classifiers("float32")
    for each in networks:
        each.head.bias.data[0] += 3
    teacher, student = (reference.Classifier(each) for each in networks)
    return *networks, teacher.eval(), student.train()


def _read(images: Tensor) -> Tensor:
    """Uint8 images (B, 3, H, W) through the reference's files."""
    with TemporaryDirectory() as folder:
        files = reference.Files(reference.save(images, folder))
        return moved(default_collate([files[i] for i in range(len(files))]), images.device)[0]


def _ood(setup: Setup) -> Iterator[Row]:
    """The second step, so that the optimiser's is checked too; the boxes are the library's."""
    teacher, student, *theirs = _networks(setup)
    images = setup.pictures(BATCH)
    config = OODConfig(Schedule(2, BATCH, "sgd", lr=0.1, weight_decay=0.0))
    optimiser = torch.optim.SGD(theirs[1].parameters(), 0.1, momentum=config.schedule.momentum)
    step = training_step(optimiser, lambda batch: reference.distillation_loss(*theirs, batch, config.temperature))
    draws, shares = generator(SEED, setup.device), beta_quantiles(config.cutmix).to(setup.device)
    for _ in range(2):
        rows = torch.randperm(BATCH, generator=draws, device=setup.device)
        loss = step(normalised(cutmix(to_unit(images[rows]), shares, draws)))
    log = ood(teacher, student, config, SEED, images=images)
    yield "ood, kl", log[-1]["kl"], loss


def _fixed_ood(setup: Setup) -> Iterator[Row]:
    teacher, student, *theirs = _networks(setup)
    images, config = setup.pictures(BATCH), OODConfig(Schedule(1, BATCH), fixed=True)
    batch = _read(mixed(images, beta_quantiles(config.cutmix).to(setup.device), SEED))
    loss = reference.distillation_loss(*theirs, batch, config.temperature)
    log = ood(teacher, student, config, SEED, images=images)
    yield "ood fixed, kl", log[-1]["kl"], loss.item()


def _zskt(setup: Setup) -> Iterator[Row]:
    """Two steps of the student.

    The generator stands still: the library's student sees the images of before its step, the papers' those after it.
    """
    teacher, student, *theirs = _networks(setup)
    made = GeneratorConfig(channels=setup.data_free.channels)
    config = ZSKTConfig(1, BATCH, student_steps=2, generator_lr=STILL, student_lr=SMALL, generator=made)
    maker = reference.Maker(build_generator(made, SEED).to(setup.device))
    noise = torch.randn(BATCH, made.latent, generator=generator(SEED, setup.device), device=setup.device)
    terms = reference.ZSKT(*theirs, maker, config).turn(noise)
    log = zskt(teacher, student, config, SEED)
    for name, value in terms.items():
        yield f"zskt, {name}", log[-1][name], value


def _cmi(setup: Setup) -> Iterator[Row]:
    """A round of one step each.

    Crops are the library's. So is the pool, through the reference's files: where a pixel is halfway between two values,
    the last bit decides which is kept. The student's temperature is 2: at 20 the divergence of networks with random
    weights is as small as float32's rounding of it.
    """
    teacher, student, *theirs = _networks(setup)
    made = GeneratorConfig(channels=setup.data_free.channels, output="unit")
    plain = CropFlip(padding=0, flip=0.0)
    config = CMIConfig(1, 1, BATCH, 1, BATCH, temperature=2.0, generator=made, augmentation=plain)
    maker = reference.Maker(build_generator(made, SEED).to(setup.device))
    projector = Projector(teacher.dimension, *config.projection, seed=SEED).to(setup.device)
    draws = generator(SEED, setup.device)
    noise = torch.randn(BATCH, made.latent, generator=draws, device=setup.device)
    classes = torch.randint(CLASSES, (BATCH,), generator=draws, device=setup.device)
    images = maker(noise).sigmoid()
    crops = _crops(images, config, draws)
    nothing = images.new_zeros(0, teacher.dimension)
    theirs[1].eval()
    inversion = reference.Inversion(*theirs, maker, projector, config)
    terms = inversion.terms(normalised(images), normalised(crops), classes, nothing)
    kept: list[Tensor] = []
    log = cmi(teacher, student, config, SEED, show=lambda _turn, pool: kept.append(pool.images.clone()))
    theirs[1].train()
    rows = torch.randint(BATCH, (BATCH,), generator=draws, device=setup.device)
    terms["kl"] = reference.distillation_loss(*theirs, _read(kept[-1])[rows], config.temperature)
    for name, term in terms.items():
        yield f"cmi, {name}", log[-1][name], term.item()


def _crops(images: Tensor, config: CMIConfig, draws: torch.Generator) -> Tensor:
    crops = Augmentation(crop_scale=config.crop)
    box = crops.draw_box(len(images), images.shape[-1], draws, images.device)
    flip = torch.rand(len(images), generator=draws, device=images.device) < crops.flip
    return resample(images, box, flip)
