"""What is measured: one function a row, each giving the two sides of a ratio."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from distill_lib.distillation.losses import LOSSES
from distill_lib.evaluation.probes import Head, HeadConfig
from distill_lib.tools.bench import library, reference
from distill_lib.tools.bench.datafree.measurements import DATA_FREE
from distill_lib.tools.bench.pairs import PARTS, Contest, Run
from distill_lib.tools.bench.setup import CLASSES, Setup
from distill_lib.training.simclr import Projector
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import corner_patch

TEMPERATURE = 0.5


def simclr_step(setup: Setup, workers: int) -> Contest:
    """SimCLR pre-training, batch for batch."""
    against = f"seconds a step of {setup.simclr_batch} images: papers' loop / ours ({setup.precision})"
    return Contest(_reference_simclr(setup, workers), library.simclr_steps(setup), against)


def simclr_step_float32(setup: Setup, workers: int) -> Contest:
    """The same in the reference's precision: what is left is not precision."""
    against = f"seconds a step of {setup.simclr_batch} images: papers' loop / ours (float32)"
    return Contest(_reference_simclr(setup, workers), library.simclr_steps(setup, "float32"), against)


def _reference_simclr(setup: Setup, workers: int) -> Run:
    encoder = setup.fresh(precision="float32")
    network, projector = reference.Network(encoder).train(), Projector(encoder.dimension).to(setup.device)
    optimiser = _adam(network, projector)
    step = reference.training_step(
        optimiser, lambda batch: reference.simclr_loss(network, projector, batch, TEMPERATURE)
    )
    return reference.in_loader(reference.TwoViews(setup.pictures()), setup.simclr_batch, workers, setup.device, step)


def augmentation(setup: Setup, workers: int) -> Contest:
    """Two views of each image, nothing else."""
    dataset = reference.TwoViews(setup.pictures())
    theirs = reference.in_loader(dataset, setup.simclr_batch, workers, setup.device, lambda batch: None)
    unit = f"seconds for two views of {setup.simclr_batch} images: PIL in a loader / ours (exact)"
    return Contest(theirs, library.views(setup), unit, least=(2, 2))


def badencoder_step(setup: Setup, workers: int) -> Contest:
    """BadEncoder's injection with one reference.

    Ours draws 16 views of the reference a step, the papers' loop one an image: L1 has the same expectation
    (`BadEncoderConfig.reference_views`). The losses are compared with as many views on both sides.
    """
    encoder, images = setup.fresh(precision="float32"), setup.pictures()
    frozen, network = reference.Network(encoder).eval(), reference.Network(encoder).eval()
    optimiser = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
    step = reference.training_step(optimiser, lambda batch: sum(reference.badencoder_terms(frozen, network, batch)))
    dataset = reference.Backdoored(images, images[:1], *reference.stamp_of(corner_patch()))
    theirs = reference.in_loader(dataset, setup.badencoder_batch, workers, setup.device, step)
    unit = f"seconds a step of {setup.badencoder_batch} images: papers' loop / ours ({setup.precision})"
    return Contest(theirs, library.badencoder_steps(setup), unit)


def distillation_step(setup: Setup, workers: int) -> Contest:
    """Distillation with AT and the student's own contrastive objective."""
    teacher, student = (reference.Network(setup.fresh(seed, "float32")) for seed in (0, 1))
    teacher.eval()
    projector = Projector(setup.fresh().dimension).to(setup.device)
    optimiser = _adam(student.train(), projector)
    weight = LOSSES["at"].weight
    step = reference.training_step(
        optimiser,
        lambda batch: sum(reference.distillation_terms(teacher, student, projector, batch, weight, TEMPERATURE)),
    )
    dataset = reference.TwoViews(setup.pictures())
    theirs = reference.in_loader(dataset, setup.distillation_batch, workers, setup.device, step)
    unit = f"seconds a step of {setup.distillation_batch} images: papers' loop / ours ({setup.precision})"
    return Contest(theirs, library.distillation_steps(setup), unit)


def head_training(setup: Setup, workers: int) -> Contest:
    """The head's epochs, nothing cached in the reference: the frozen encoder's pass over every image at each epoch."""
    network = reference.Network(setup.fresh(precision="float32"))
    images = reference.Labelled(setup.pictures(), setup.labels())
    theirs = _reference_head(setup, workers, images, reference.frozen_features(network))
    unit = f"seconds an epoch of {setup.images} images: frozen encoder and head in a loader / head on cached features"
    return Contest(theirs, library.head_epochs(setup), unit, least=(1, 2))


def head_training_cached(setup: Setup, workers: int) -> Contest:
    """The same where the reference caches its features too, as BadEncoder's release may: what is left is its loader."""
    bank = torch.nn.functional.normalize(extract(setup.fresh(), setup.pictures()), dim=1)
    theirs = _reference_head(setup, workers, TensorDataset(bank.cpu(), setup.labels().cpu()), lambda features: features)
    unit = f"seconds an epoch of {setup.images} images: loader over cached features / head on cached features"
    return Contest(theirs, library.head_epochs(setup), unit, least=(1, 2))


def _reference_head(setup: Setup, workers: int, dataset: Dataset, features: Callable) -> Run:
    config = HeadConfig()
    layers = Head(setup.fresh().dimension, CLASSES, config).layers.to(setup.device).train()
    loader = {"batch_size": setup.head_batch, "num_workers": workers}
    return reference.head_loop(dataset, features, layers, config.lr, loader)


def step_over_bare(setup: Setup, _workers: int) -> Contest:
    """The whole step over the encoder's forward and backward: 1 is the limit."""
    unit = f"seconds: whole SimCLR step / bare forward and backward of its {2 * setup.simclr_batch} views"
    return Contest(library.simclr_steps(setup), library.bare_steps(setup), unit, least=(PARTS, 2))


def matmul_share(setup: Setup, _workers: int) -> Contest:
    """The encoder's operations a second in a SimCLR step over those of a large matrix product in the same precision."""
    scale = library.step_flops(setup) / (2 * setup.matrix**3)
    unit = f"encoder's operations a second in a SimCLR step / a {setup.matrix} matrix product's ({setup.precision})"
    return Contest(library.matmuls(setup), library.simclr_steps(setup), unit, scale, least=(2, PARTS))


def _adam(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.Adam(parameters, 1e-3, weight_decay=1e-6)


# Against the papers' loops, whose loader has workers; and against the hardware.
AGAINST_LOOPS: dict[str, Callable[[Setup, int], Contest]] = {
    "simclr_step": simclr_step,
    "simclr_step_float32": simclr_step_float32,
    "augmentation": augmentation,
    "badencoder_step": badencoder_step,
    "distillation_step": distillation_step,
    "head_training": head_training,
    "head_training_cached": head_training_cached,
    **DATA_FREE,
}
AGAINST_LIMITS: dict[str, Callable[[Setup, int], Contest]] = {
    "step_over_bare": step_over_bare,
    "matmul_share": matmul_share,
}
