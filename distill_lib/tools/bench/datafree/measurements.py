"""What is measured of the data-free methods: one function a row, each giving the two sides of a ratio."""

from collections.abc import Callable

import torch

from distill_lib.datafree.cmi import CMIConfig
from distill_lib.datafree.generator import build_generator
from distill_lib.tools.bench.datafree import library, reference
from distill_lib.tools.bench.pairs import PARTS, Contest, Run
from distill_lib.tools.bench.reference import training_step
from distill_lib.tools.bench.setup import Setup
from distill_lib.training.simclr import Projector


def ood_step(setup: Setup, workers: int) -> Contest:
    """Distillation on patches of one picture as published: CutMix anew and the teacher asked at each step."""
    return Contest(_reference_ood(setup, workers), library.ood_steps(setup), _ood_unit(setup))


def ood_step_fixed(setup: Setup, workers: int) -> Contest:
    """The same where ours mixes once, before the training, and so asks the teacher once an image: `OODConfig.fixed`."""
    unit = f"{_ood_unit(setup)}, teacher asked once an image"
    return Contest(_reference_ood(setup, workers), library.fixed_ood_steps(setup), unit)


def _ood_unit(setup: Setup) -> str:
    return f"seconds a step of {setup.data_free.ood_batch} images: papers' loop / ours ({setup.precision})"


def _reference_ood(setup: Setup, workers: int) -> Run:
    config, (teacher, student) = library.ood_config(setup), _classifiers(setup)
    optimiser = torch.optim.Adam(student.parameters(), config.schedule.lr)
    step = training_step(
        optimiser, lambda images: reference.distillation_loss(teacher, student, images, config.temperature)
    )
    return reference.ood_steps(step, setup.pictures(), config.schedule.batch, config.cutmix, workers)


def zskt_turn(setup: Setup, _workers: int) -> Contest:
    """A step of the generator and ten of the student; nothing is read from anywhere."""
    config = library.zskt_config(setup)
    maker = reference.Maker(build_generator(config.generator, 0).to(setup.device))
    game = reference.ZSKT(*_classifiers(setup), maker, config)
    unit = f"seconds a turn of {config.batch} images: papers' loop / ours ({setup.precision})"
    return Contest(game.run, library.zskt_turns(setup), unit, least=(1, PARTS))


def cmi_round(setup: Setup, workers: int) -> Contest:
    """A round, cut in the published proportion of the generator's steps to the student's.

    Ours keeps a round's images as often as the cut rounds end; the papers' loop is charged for the part of the files
    that as many steps of a whole round would write.
    """
    config, (teacher, student) = library.cmi_config(setup), _classifiers(setup)
    maker = reference.Maker(build_generator(config.generator, 0).to(setup.device))
    projector = Projector(teacher.head.in_features, *config.projection).to(setup.device)
    inversion = reference.Inversion(teacher, student, maker, projector, config)
    optimiser = torch.optim.SGD(
        student.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    step = training_step(
        optimiser, lambda batch: reference.distillation_loss(teacher, student, batch[0], config.temperature)
    )
    published = CMIConfig().generator_steps
    theirs = reference.cmi_rounds(inversion, step, setup.pictures(config.images), workers, published)
    unit = (
        f"seconds for {config.generator_steps} generator steps of {config.images} images and {config.student_steps} "
        f"student steps of {config.batch}: papers' loop / ours ({setup.precision})"
    )
    return Contest(theirs, library.cmi_rounds(setup), unit, least=(1, 1))


def _classifiers(setup: Setup) -> tuple[reference.Classifier, reference.Classifier]:
    """Teacher in eval mode, student in train mode."""
    teacher, student = (reference.Classifier(each) for each in setup.classifiers("float32"))
    return teacher.eval(), student.train()


DATA_FREE: dict[str, Callable[[Setup, int], Contest]] = {
    "ood_step": ood_step,
    "ood_step_fixed": ood_step_fixed,
    "zskt_turn": zskt_turn,
    "cmi_round": cmi_round,
}
WITHOUT_LOADER = ("zskt_turn",)
