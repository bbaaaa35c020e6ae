"""The repairs, by name: the study's defences, made of the same functions and paid from one budget of augmented images.

Loss weights, optimiser and shares of the budget are those of the profile `laptop`, chosen on real images and
exploration seeds. Batch and, for transformers, the learning rate are set here [ours].
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from distill_lib.defences.bn_reset import bn_reset
from distill_lib.defences.clean_share import clean_share
from distill_lib.defences.clp import clp
from distill_lib.defences.finetune import finetune
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import resolve
from distill_lib.distillation.nad import nad_config
from distill_lib.errors import UsageError, choose
from distill_lib.study.config.load import load_profile
from distill_lib.study.config.profile import Profile
from distill_lib.study.config.settings import Defender
from distill_lib.study.workshop import FRESH_REPAIR, FRESH_STUDENT, FRESH_TEACHER
from distill_lib.tools.purify.subject import Blueprint, Subject
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import VIEWS, SimCLRConfig

TUNED = "laptop"
LARGEST_BATCH = 128
# Of transformers: Adam at a ResNet's rate does not train them. Not tuned.
GENTLE_LR = 3e-4


@cache
def tuned() -> Profile:
    """The profile whose settings are taken."""
    return load_profile(TUNED)


@dataclass(frozen=True)
class Repair:
    """All that a recipe works with.

    Attributes:
        blueprint: The encoder's.
        images: Clean ones to train on, uint8 (N, 3, S, S), on the encoder's device.
        views: Augmented images that the whole recipe may use.
        seed: Of everything that is drawn.
        watch: Gives the watch of a stage, named in words.
        settings: Where loss weights, optimiser and shares of the budget come from.
    """

    blueprint: Blueprint
    images: Tensor
    views: int
    seed: int
    watch: Callable[[str], Watch] = lambda stage: Watch()
    settings: Profile = field(default_factory=tuned)

    @property
    def defender(self) -> Defender:
        """How the budget is shared out."""
        return replace(self.settings.defender, views=self.views)

    @property
    def batch(self) -> int:
        """Images a step."""
        return min(LARGEST_BATCH, len(self.images))

    def schedule(self, views: int, views_per_image: int = VIEWS) -> Schedule:
        """As many steps as the views pay for."""
        settings = asdict(self.settings.defender.optimisation) | {"batch": self.batch}
        if self.blueprint.architecture.extra_tokens is not None:
            settings["lr"] = GENTLE_LR
        return Schedule(max(1, views // (self.batch * views_per_image)), **settings)

    def contrastive(self, views: int) -> SimCLRConfig:
        """Any contrastive training."""
        return SimCLRConfig(self.schedule(views))

    def finetuned(self, views: int, words: str = "fine-tuning") -> Subject:
        """The suspect after contrastive training on the clean images."""
        encoder = self.blueprint.suspect()
        finetune(encoder, self.images, self.contrastive(views), self.seed + FRESH_REPAIR, self.watch(words))
        return encoder

    def trained(self, views: int, fresh: int, words: str) -> Subject:
        """An encoder that saw the clean images and nothing of the suspect."""
        encoder, seed = self.blueprint.fresh(self.seed + fresh), self.seed + fresh
        clean_share(encoder, self.images, self.contrastive(views), seed, self.watch(words))
        return encoder

    def distilled(self, teacher: Subject, student: Subject, config: DistilConfig) -> Subject:
        """The student after learning from the teacher."""
        words = self.watch(f"distilling with {config.loss}")
        distil(teacher, student, self.images, config, self.seed + FRESH_STUDENT, words)
        return student


# ---- teachers and students: (views that they cost, how they are made with so many) -----------------------------------

TEACHERS: dict[str, tuple[Callable[[Repair], int], Callable[[Repair, int], Subject]]] = {
    "poisoned": (lambda repair: 0, lambda repair, views: repair.blueprint.suspect()),
    "finetuned": (
        lambda repair: repair.defender.teacher_views,
        lambda repair, views: repair.finetuned(views, "fine-tuning the teacher"),
    ),
    "scratch": (
        lambda repair: repair.defender.teacher_views,
        lambda repair, views: repair.trained(views, FRESH_TEACHER, "training a teacher afresh"),
    ),
}
STUDENTS: dict[str, tuple[Callable[[Repair], int], Callable[[Repair, int], Subject]]] = {
    "random": (lambda repair: 0, lambda repair, views: repair.blueprint.fresh(repair.seed + FRESH_STUDENT)),
    "warmup": (
        lambda repair: repair.defender.warmup_views,
        lambda repair, views: repair.trained(views, FRESH_REPAIR, "warming the student up"),
    ),
    "copy": (lambda repair: 0, lambda repair, views: repair.blueprint.suspect()),
}


def distillation(repair: Repair, teacher: str, student: str, loss: str) -> Subject:
    """A student distilled from a teacher, as long as the views that their making has left over pay for."""
    teacher_views, make_teacher = choose("teacher", teacher, TEACHERS)
    student_views, make_student = choose("student", student, STUDENTS)
    spent = teacher_views(repair), student_views(repair)
    settings = repair.settings.distillation
    weight = resolve(loss, settings.weights.get(loss)).weight
    shared = {name: getattr(settings, name) for name in ("nt_xent_weight", "mixup", "cosine_weight")}
    shared |= {"weight": weight}
    config = DistilConfig(repair.schedule(VIEWS), loss, **shared)
    schedule = repair.schedule(repair.views - sum(spent), config.views_per_image)
    pair = make_teacher(repair, spent[0]), make_student(repair, spent[1])
    return repair.distilled(*pair, replace(config, schedule=schedule))


# ---- the recipes ----------------------------------------------------------------------------------------------------


def _nad(repair: Repair) -> Subject:
    cost = repair.defender.teacher_views
    teacher = repair.finetuned(cost, "fine-tuning the teacher")
    return repair.distilled(teacher, repair.blueprint.suspect(), nad_config(repair.schedule(repair.views - cost)))


def _bn_reset(repair: Repair) -> Subject:
    encoder = _with_batch_norm(repair, "bn_reset")
    bn_reset(encoder, repair.images, seed=repair.seed)
    return encoder


def _clp(repair: Repair) -> Subject:
    encoder = _with_batch_norm(repair, "clp")
    clp(encoder)
    return encoder


def _with_batch_norm(repair: Repair, recipe: str) -> Subject:
    encoder = repair.blueprint.suspect()
    if not any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        name = repair.blueprint.architecture.name
        raise UsageError(f"recipe {recipe!r} changes batch norm, which {name} does not have; allowed: {ALLOWED}")
    return encoder


@dataclass(frozen=True)
class Recipe:
    """A repair.

    Attributes:
        words: What it does, for the model card.
        run: Does it.
        afresh: Whether the repaired encoder started from random weights.
        uses: What it takes: `views`, augmented again and again; `images`, once, as they are; or `nothing`.
    """

    words: str
    run: Callable[[Repair], Subject]
    afresh: bool = False
    uses: str = "views"


def _distillation(words: str, teacher: str, student: str, loss: str) -> Recipe:
    return Recipe(words, lambda repair: distillation(repair, teacher, student, loss), student != "copy")


def _own(cell: str, words: str) -> Recipe:
    """One of the study's own recipes, with the settings that its profile froze before the test."""

    def run(repair: Repair) -> Subject:
        own = next(each for each in tuned().recipes if each.cell == cell)
        return distillation(replace(repair, settings=tuned().varied(own.settings)), *own.cell.split("/"))

    return Recipe(words, run, afresh=True)


RECIPES: dict[str, Recipe] = {
    "recipe": _distillation(
        "the suspect is fine-tuned on the clean images; a fresh encoder, warmed up on them, learns its attention (AT)",
        "finetuned",
        "warmup",
        "at",
    ),
    "finetune": Recipe(
        "the suspect goes on learning, contrastively, on the clean images",
        lambda repair: repair.finetuned(repair.views),
    ),
    "fitnet": _own(
        "finetuned/random/fitnet",
        "the suspect is fine-tuned on the clean images for half of the budget; a fresh encoder learns its feature maps "
        "(FitNet) and nothing else",
    ),
    "nad": Recipe("NAD: the suspect learns the attention of its own fine-tuned copy", _nad),
    "bn_reset": Recipe(
        "batch norm's statistics are estimated anew on the clean images; no weight changes", _bn_reset, uses="images"
    ),
    "clp": Recipe(
        "CLP: channels with outlying Lipschitz bounds are switched off; no images are used", _clp, uses="nothing"
    ),
}
ALLOWED = f"{', '.join(RECIPES)}, or teacher/student/loss"


def find(name: str) -> Recipe:
    """A recipe by its name, or any distillation as `teacher/student/loss`.

    Raises:
        UsageError: If there is none; the message lists all.
    """
    if name in RECIPES:
        return RECIPES[name]
    parts = name.split("/")
    if len(parts) != 3:
        raise UsageError(f"unknown recipe {name!r}; allowed: {ALLOWED}")
    choose("teacher", parts[0], TEACHERS)
    choose("student", parts[1], STUDENTS)
    resolve(parts[2])
    return _distillation(f"distillation: teacher {parts[0]}, student {parts[1]}, loss {parts[2]}", *parts)
