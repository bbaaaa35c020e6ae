"""Teachers, students and plain defences: how each is made, and the augmented images that its making costs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from distill_lib.defences.bn_reset import BNResetConfig, bn_reset
from distill_lib.defences.clean_share import clean_share
from distill_lib.defences.clp import CLPConfig, clp
from distill_lib.defences.fine_pruning import FinePruningConfig, fine_pruning
from distill_lib.defences.finetune import finetune
from distill_lib.distillation.nad import nad_config
from distill_lib.study.cells import Cell
from distill_lib.study.config.settings import Defender
from distill_lib.study.store import Artefact
from distill_lib.study.workshop import FRESH_REPAIR, FRESH_TEACHER, Workshop
from distill_lib.training.simclr import SimCLRConfig
from distill_lib.vision.augment import Augmentation


def repaired(stages: Workshop, start: Artefact | None, views: int, seed: int, fresh: int = FRESH_REPAIR) -> Artefact:
    """SimCLR on the defender's clean images: from an encoder (fine-tuning) or from random weights (None).

    `fresh` is added to the seed of all that is drawn: weights, projector, order and views.
    """
    schedule = stages.defender_schedule(views)
    run = finetune if start else clean_share

    def change(encoder, work):
        config = SimCLRConfig(schedule, augmentation=stages.defender_views())
        return run(encoder, stages.share(seed), config, seed + fresh, stages.watch(work)), {}

    # The teacher `scratch` is younger than the first results, whose keys it leaves as they were.
    other = {} if fresh == FRESH_REPAIR else {"fresh": fresh}
    other |= {} if stages.defender_views() == Augmentation() else {"augmentation": asdict(stages.defender_views())}
    described = {"share": stages.share_settings(), "schedule": asdict(schedule), **other}
    return stages.made("repaired", seed, described, start, change, fresh)


def pruned(stages: Workshop, start: Artefact, views: int, seed: int) -> Artefact:
    """Fine-pruning: dormant channels out, then fine-tuning."""
    finetuning = SimCLRConfig(stages.defender_schedule(views), augmentation=stages.defender_views())
    config = FinePruningConfig(finetuning, stages.profile.defender.pruned)

    def change(encoder, work):
        log, channels = fine_pruning(encoder, stages.share(seed), config, seed + FRESH_REPAIR, stages.watch(work))
        return log, {"pruned_channels": channels.tolist()}

    described = {"share": stages.share_settings(), "fine_pruning": asdict(config)}
    return stages.made("repaired", seed, described, start, change)


def lipschitz_pruned(stages: Workshop, start: Artefact, seed: int) -> Artefact:
    """CLP: no data, no training."""
    config = CLPConfig(stages.profile.defender.clp_u)

    def change(encoder, work):
        return [], {"pruned_channels": {path: found.tolist() for path, found in clp(encoder, config).items()}}

    return stages.made("repaired", seed, {"clp": asdict(config)}, start, change)


def renormalised(stages: Workshop, start: Artefact, seed: int) -> Artefact:
    """Batch norm's statistics anew, from the clean images as they are."""
    config = BNResetConfig()

    def change(encoder, work):
        return [], {"batches": bn_reset(encoder, stages.share(seed), config, seed)}

    described = {"share": stages.share_settings(), "bn_reset": asdict(config)}
    return stages.made("repaired", seed, described, start, change)


def attention_distilled(stages: Workshop, cell: Cell) -> Artefact:
    """NAD: the poisoned encoder learns the attention of its own fine-tuned copy."""
    teacher, budget = TEACHERS["finetuned"], stages.profile.defender
    config = nad_config(stages.defender_schedule(budget.views - teacher.views(budget)))
    pair = teacher.make(stages, cell), _attacked(stages, cell)
    return stages.distilled_from(*pair, replace(config, augmentation=stages.defender_views()), cell.seed)


def _attacked(stages: Workshop, cell: Cell) -> Artefact:
    return stages.attacked(cell.seed, cell.downstream)


@dataclass(frozen=True)
class Part:
    """A teacher, or a student before the distillation.

    Attributes:
        encoder: (stages, cell, views) -> it, made with so many views; None: random weights.
        views: The defender's budget -> what it may cost.
    """

    encoder: Callable[[Workshop, Cell, int], Artefact | None]
    views: Callable[[Defender], int] = lambda budget: 0

    def make(self, stages: Workshop, cell: Cell) -> Artefact | None:
        """The encoder that a distillation of this cell starts with."""
        return self.encoder(stages, cell, self.views(stages.profile.defender))


def _teacher(encoder: Callable) -> Part:
    return Part(encoder, lambda budget: budget.teacher_views)


TEACHERS = {  # the last two are the ceiling and the floor
    "poisoned": Part(lambda stages, cell, views: _attacked(stages, cell)),
    "finetuned": _teacher(lambda stages, cell, views: repaired(stages, _attacked(stages, cell), views, cell.seed)),
    "pruned": _teacher(lambda stages, cell, views: pruned(stages, _attacked(stages, cell), views, cell.seed)),
    "scratch": _teacher(lambda stages, cell, views: repaired(stages, None, views, cell.seed, FRESH_TEACHER)),
    "clean": Part(lambda stages, cell, views: stages.pretrained(cell.seed)),
    "random": Part(lambda stages, cell, views: stages.untrained(cell.seed)),
}
STUDENTS = {
    "random": Part(lambda stages, cell, views: None),
    "warmup": Part(
        lambda stages, cell, views: repaired(stages, None, views, cell.seed), lambda budget: budget.warmup_views
    ),
    "copy": Part(lambda stages, cell, views: _attacked(stages, cell)),
}
# name -> (stages, cell) -> the defended encoder; each that trains may spend all the views
DEFENCES = {
    "clean_share": lambda stages, cell: repaired(stages, None, stages.profile.defender.views, cell.seed),
    "finetune": lambda stages, cell: repaired(
        stages, _attacked(stages, cell), stages.profile.defender.views, cell.seed
    ),
    "bn_reset": lambda stages, cell: renormalised(stages, _attacked(stages, cell), cell.seed),
    "clp": lambda stages, cell: lipschitz_pruned(stages, _attacked(stages, cell), cell.seed),
    "fine_pruning": lambda stages, cell: pruned(
        stages, _attacked(stages, cell), stages.profile.defender.views, cell.seed
    ),
    "nad": attention_distilled,
}
