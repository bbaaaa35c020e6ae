"""What the study's parts can be told: the tables of a profile."""

from dataclasses import dataclass, field

from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES
from distill_lib.vision.encoders import STAGES as ENCODER_STAGES


def at_least(name: str, value: float, least: float) -> None:
    """UsageError, with the setting's name, where a value is too small."""
    if value < least:
        raise UsageError(f"{name} is {value}; allowed: {least} or more")


@dataclass(frozen=True)
class Optimisation:
    """How a training is optimised; its length is given in views."""

    batch: int = 128
    optimiser: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-6
    decay: str = "constant"
    warmup: int = 0


@dataclass(frozen=True)
class Pretraining:
    """Self-supervised, from random weights: `epochs` over the pre-training set, two views of an image each."""

    algorithm: str = "simclr"  # or moco, byol
    epochs: int = 1000
    optimisation: Optimisation = field(default_factory=Optimisation)


@dataclass(frozen=True)
class Injection:
    """BadEncoder: passes over `shadow` images of the pre-training set (0: all of them).

    `reference_views` are drawn of the references at each step; published: one for each image of the batch.
    """

    epochs: int = 200
    shadow: int = 0
    lambda1: float = 1.0
    lambda2: float = 1.0
    references: int = 1
    reference_views: int = 16
    trigger_size: int = 10
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(batch=256, optimiser="sgd", weight_decay=5e-4)
    )


@dataclass(frozen=True)
class Defender:
    """What the defender holds and spends.

    Every defence gets `views` augmented images in all: a fine-tuned teacher and a warmed-up student are paid from it,
    and the distillation has what is left.

    Attributes:
        share: Clean images as a share of the pre-training set.
        source: Another image set that they come from; empty: the pre-training set.
        disjoint: Whether none of them is among the attacker's shadow images.
        contaminated: Share of them that carry the trigger without the defender's knowledge.
        views: Of each defence, in all.
        teacher: Share of the views that fine-tuning (pruning, training) a teacher costs.
        warmup: Share of the views that warming a student up costs.
        pruned: Share of the last stage's channels that fine-pruning removes.
        clp_u: Threshold of CLP in standard deviations.
        crop: Smallest share of an image's area that a view keeps.
        cutout: Largest side of the grey square in a view, as a share of the image's; 0: none.
        optimisation: Of every training of the defender's.
    """

    share: float = 0.05
    source: str = ""
    disjoint: bool = False
    contaminated: float = 0.0
    views: int = 1_000_000
    teacher: float = 0.3
    warmup: float = 0.3
    pruned: float = 0.2
    clp_u: float = 3.0
    crop: float = 0.2
    cutout: float = 0.0
    optimisation: Optimisation = field(default_factory=Optimisation)

    def __post_init__(self):
        for name, least in (("views", 1), ("teacher", 0), ("warmup", 0)):
            at_least(f"defender.{name}", getattr(self, name), least)
        if not (0 < self.crop <= 1 and 0 <= self.cutout < 1):
            raise UsageError(
                f"defender.crop {self.crop}, defender.cutout {self.cutout} are impossible; "
                "allowed: crop above 0, at most 1; cutout 0 or more, below 1"
            )
        if not 0 < self.share <= 1:
            raise UsageError(f"defender.share is {self.share}; allowed: above 0, at most 1")
        if self.teacher + self.warmup >= 1:
            raise UsageError("defender.teacher + defender.warmup leave no views to distil; their sum must be below 1")
        if self.disjoint and self.source:
            raise UsageError(
                f"defender.disjoint and defender.source {self.source!r} exclude each other, as the attacker's "
                "shadow images are of the pre-training set; allowed: one of them"
            )
        if not 0 <= self.contaminated <= 1:
            raise UsageError(f"defender.contaminated is {self.contaminated}; allowed: 0 to 1")

    @property
    def teacher_views(self) -> int:
        """What fine-tuning a teacher costs."""
        return int(self.views * self.teacher)

    @property
    def warmup_views(self) -> int:
        """What warming a student up costs."""
        return int(self.views * self.warmup)


@dataclass(frozen=True)
class Distillation:
    """The recipe, and the weight of each loss where it is not the registry's.

    Attributes:
        loss: Of the recipe.
        teacher: Of the recipe.
        student: Of the recipe.
        nt_xent_weight: Of the student's own objective.
        mixup: Parameter of Beta(mixup, mixup); 0: off.
        steps: Of the distillation; 0: as many as the budget has left.
        cosine_weight: Of the feature cosine beside the loss; 0: the loss's own, which is mostly none.
        fresh_stages: Last stages of a student that start from random weights, 0 to 4.
        bn_reset: Whether the student's batch-norm statistics are estimated anew at the end.
        weights: By loss.
    """

    loss: str = "at"
    teacher: str = "finetuned"
    student: str = "warmup"
    nt_xent_weight: float = 1.0
    mixup: float = 0.0
    steps: int = 0
    cosine_weight: float = 0.0
    fresh_stages: int = 0
    bn_reset: bool = False
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        for name in (*self.weights, self.loss):
            resolve(name)
        at_least("distillation.cosine_weight", self.cosine_weight, 0)
        if not 0 <= self.fresh_stages <= len(ENCODER_STAGES):
            raise UsageError(f"distillation.fresh_stages is {self.fresh_stages}; allowed: 0 to {len(ENCODER_STAGES)}")


@dataclass(frozen=True)
class Further:
    """Another attack of the same run.

    Attributes:
        downstream: Sets that it is measured on.
        compared: The one on which components are compared; empty: none.
        seeds: Its reported seeds; empty: the profile's.
        compared_seeds: Those on which components are compared; empty: the profile's, where they are its own.
    """

    downstream: tuple[str, ...]
    compared: str = ""
    seeds: tuple[int, ...] = ()
    compared_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Classifiers on the frozen encoder; `train` and `test` limit the images used (0: all)."""

    probe: str = "head"
    train: int = 0
    test: int = 0
    head_epochs: int = 60
    head_batch: int = 128
    head_lr: float = 1e-3

    def __post_init__(self):
        choose("probe", self.probe, PROBES)
