"""From a study's store to an explorer: which encoders are there, found without computing one."""

import functools
from dataclasses import replace
from itertools import product

from distill_lib.attacks.ctrl import FrequencyTrigger
from distill_lib.distillation.losses import LOSSES
from distill_lib.errors import UsageError
from distill_lib.plots.tsne import choose_rows
from distill_lib.study.cells import Cell
from distill_lib.study.components import DEFENCES, STUDENTS, TEACHERS
from distill_lib.study.session import Study
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.tools.explore.explorer import Bank, Explorer
from distill_lib.tools.explore.subject import load_subject
from distill_lib.vision.triggers import Patch, Trigger, corner_patch


def open_explorer(study: Study) -> Explorer:
    """The encoders of the study's main attack, on the set and seed where its components are compared.

    Raises:
        UsageError: If the clean, the attacked or the distilled encoder is not stored, or the trigger is no square.
    """
    attacked = attacked_cell(study)
    patch = square(study.profile.attack, study.under(attacked.attack).trigger())
    images, labels = study.sample(attacked.downstream)
    rows = choose_rows(labels, attacked.target)
    about = f"{attacked.attack}, {attacked.downstream}, seed {attacked.seed}"
    classes = study.classes(attacked.downstream)
    bank = Bank(images[rows["clean"]], labels[rows["clean"]], classes, attacked.target, about)
    sources = {cell.label(): functools.partial(load_subject, study, cell, rows) for cell in stored(study, attacked)}
    return Explorer(bank, sources, patch)


def attacked_cell(study: Study) -> Cell:
    """The attacked encoder of the study's main attack.

    Raises:
        UsageError: If it was never made: an attack on data would have to be run to know its target class.
    """
    attack, sets = study.profile.attack, study.attacks()[study.profile.attack]
    downstream = sets.compared if sets.compared in sets.downstream else sets.downstream[0]
    seed = sets.compared_seeds[0]
    named = naming(study, attack)
    try:
        target = named.target(downstream, seed)
    except FileNotFoundError:
        raise _missing(study, "attacked", attack, downstream, seed) from None
    cell = Cell(study.profile.pretrain, attack, downstream, target, "attacked", "none", "", "", "", seed)
    needed = [replace(cell, stage="clean"), cell, *study.recipe([cell])]
    for each in needed:
        if not is_stored(study, each):
            raise _missing(study, each.label(), attack, downstream, seed)
    return cell


def stored(study: Study, attacked: Cell) -> list[Cell]:
    """The encoders that the store holds: clean, attacked, the recipe's, then every other defended one."""
    (recipe,) = study.recipe([attacked])
    forms = [each.name for loss in LOSSES.values() for each in (loss, *loss.variants.values())]
    distilled = [attacked.distilled(*parts) for parts in product(TEACHERS, STUDENTS, forms)]
    defended = [*(attacked.defended(name) for name in DEFENCES), *distilled]
    return [replace(attacked, stage="clean"), attacked, recipe] + [
        cell for cell in defended if cell != recipe and is_stored(study, cell)
    ]


def is_stored(study: Study, cell: Cell) -> bool:
    """Whether a cell's encoder is in the store; nothing is computed."""
    try:
        named = naming(study, cell.attack).encoder_of(cell)
    except (FileNotFoundError, UsageError):  # made from what is not there, or impossible under these settings
        return False
    return study.stages.store.find(named.kind, named.key) is not None


def naming(study: Study, attack: str) -> Stages:
    """The stages of an attack, over a store that only says under which key a result would be."""
    return replace(study.under(attack), store=Naming(study.stages.store.root))


def square(attack: str, trigger: Trigger) -> Patch:
    """A trigger as a square that can be moved: one at a random place of each image starts in the corner.

    Raises:
        UsageError: If it is a pattern over the whole image.
    """
    if isinstance(trigger, FrequencyTrigger):
        raise UsageError(f"the trigger of {attack!r} is no square to be moved; allowed: badencoder, poisoned_data")
    return trigger if isinstance(trigger, Patch) else replace(corner_patch(trigger.size), colour=trigger.colour)


def _missing(study: Study, label: str, attack: str, downstream: str, seed: int) -> UsageError:
    return UsageError(
        f"the store {str(study.stages.store.root)!r} has no encoder {label!r} of {attack} on {downstream!r}, seed "
        f"{seed}; run the notebooks 01_attack and 02_teacher with the same parameters first "
        "(for a profile: ./run_all.sh --only 01_attack,02_teacher)"
    )
