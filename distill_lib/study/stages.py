"""The stages: each gives an artefact, found in the store or computed from the artefacts below it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_lib.attacks.badencoder import BadEncoderConfig, choose_references, inject
from distill_lib.data import ImageSet, clean_share, holdout, load
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import resolve
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES, HeadConfig, margins
from distill_lib.evaluation.rates import rates, trigger_cos
from distill_lib.study.cells import Cell
from distill_lib.study.config import Optimisation, Profile
from distill_lib.study.store import Artefact, Store, Workspace
from distill_lib.training.device import resolve_precision
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import VIEWS, SimCLRConfig, simclr
from distill_lib.vision.encoders import Encoder, EncoderConfig, build_encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Patch, corner_patch, placebo

# Raised when a change of the code changes what a stage makes.
VERSIONS = {"pretrained": 3, "untrained": 1, "attacked": 4, "repaired": 4, "distilled": 4, "measured": 1}
VALIDATION_SHARE = 0.2
SIDE = 32  # pixels, of every image set here
# Added to a seed, so that what one party draws (weights, projector, order, views) is independent of what another drew:
# the defender's trainings, the student's weights, the attacker's own head.
FRESH_REPAIR, FRESH_STUDENT, FRESH_ATTACKER = 1000, 2000, 4000


@dataclass(frozen=True)
class Facts:
    """What the keys need to know of an image set: enough to name a result without the images at hand."""

    source: str
    digest: str
    count: int
    classes: int


@dataclass
class Stages:
    """Everything the study makes, for one profile on one device.

    Attributes:
        profile: All settings.
        store: Where artefacts are.
        device: Where they are computed; no part of any key.
        data_dir: Folder of image archives.
        known: Facts of image sets by "name/split", for naming results without the images.
        precision: In place of the profile's.
        checkpoint_s: Seconds between the checkpoints of a training.
    """

    profile: Profile
    store: Store
    device: torch.device
    data_dir: Path | None = None
    known: dict[str, Facts] = field(default_factory=dict)
    precision: str | None = None
    checkpoint_s: float = 20.0

    def __post_init__(self):
        self._sets: dict[tuple[str, str], ImageSet] = {}
        self.precision = self.precision or resolve_precision(self.profile.precision, self.device)

    # ---- images ------------------------------------------------------------------------------------------------

    def images(self, name: str, split: str = "train") -> ImageSet:
        """An image set, loaded once; the pre-training set is the unlabelled split where there is one."""
        if (name, split) not in self._sets:
            images = load(name, split, data_dir=self.data_dir, cache_dir=self.store.root / "data")
            if images.images.shape[-2:] != (SIDE, SIDE):
                height, width = images.images.shape[-2:]
                raise UsageError(f"the images of {name!r} are {height} x {width} pixels; allowed: {SIDE} x {SIDE}")
            self._sets[name, split] = images
        return self._sets[name, split]

    def facts(self, name: str, split: str = "train") -> Facts:
        """Source, hash and size of an image set."""
        where = f"{name}/{split}"
        if where not in self.known:
            images = self.images(name, split)
            self.known[where] = Facts(images.source, images.digest, len(images), len(images.classes))
        return self.known[where]

    @property
    def pretraining_split(self) -> str:
        """STL-10 has a split without labels for this."""
        return "unlabelled" if self.profile.pretrain == "stl10" else "train"

    @cached_property
    def pretraining(self) -> ImageSet:
        """The unlabelled images that the encoder is trained on."""
        return self.images(self.profile.pretrain, self.pretraining_split).to(self.device)

    @property
    def pretraining_facts(self) -> Facts:
        """Source, hash and size of the pre-training set."""
        return self.facts(self.profile.pretrain, self.pretraining_split)

    def downstream(self, name: str, on: str = "test") -> tuple[ImageSet, ImageSet]:
        """Training images, and those that rates are measured on: the test set or, to choose settings, `validation`."""
        settings, train = self.profile.evaluation, self.images(name)
        if on == "validation":
            train, held = holdout(train, VALIDATION_SHARE, seed=0)
        else:
            held = self.images(name, "test")
        return _limited(train, settings.train), _limited(held, settings.test)

    def limited_test(self, name: str, count: int) -> ImageSet:
        """A fixed sample of the test set."""
        return _limited(self.images(name, "test"), count)

    def share(self, seed: int) -> Tensor:
        """The defender's clean images, uint8 (N, 3, H, W)."""
        return clean_share(self.pretraining, self.profile.defender.share, seed).images

    def share_size(self) -> int:
        """How many they are."""
        return round(self.profile.defender.share * self.pretraining_facts.count)

    # ---- the attack --------------------------------------------------------------------------------------------

    def trigger(self) -> Patch:
        """The attacker's trigger, at the 32 pixels that every image set has here."""
        return corner_patch(self.profile.injection.trigger_size)

    def pretrained(self, seed: int) -> Artefact:
        """The clean encoder: SimCLR from random weights."""
        settings = self.profile.pretraining
        count = self.pretraining_facts.count
        schedule = _schedule(settings.optimisation, settings.epochs * count * VIEWS, count)

        def compute(work: Workspace):
            encoder = self.fresh(seed)
            log = simclr(encoder, self.pretraining.images, SimCLRConfig(schedule), seed, self._watch(work))
            return _trained(work, encoder, log)

        config = {**self._common(seed), "schedule": asdict(schedule)}
        return self._make("pretrained", config, compute)

    def untrained(self, seed: int) -> Artefact:
        """Random weights: the floor under every encoder."""
        return self._make("untrained", self._common(seed), lambda work: (self.fresh(seed).state_dict(), {}))

    def attacked(self, seed: int, downstream: str) -> Artefact:
        """The encoder with BadEncoder's backdoor for the target class of one downstream set."""
        settings, clean = self.profile.injection, self.pretrained(seed)
        shadow = min(settings.shadow, self.pretraining_facts.count) or self.pretraining_facts.count
        schedule = _schedule(settings.optimisation, settings.epochs * shadow, shadow, views_per_image=1)
        config = BadEncoderConfig(schedule, settings.lambda1, settings.lambda2)

        def compute(work: Workspace):
            encoder = self.encoder(clean)
            order = torch.randperm(len(self.pretraining), generator=torch.Generator().manual_seed(seed))[:shadow]
            chosen = self.references(encoder, downstream, seed)
            images = self.downstream(downstream)[0].images[chosen].to(self.device)
            shadow_images = self.pretraining.images[order.to(self.device)]
            log = inject(encoder, shadow_images, self.trigger(), images, config, seed, self._watch(work))
            return _trained(work, encoder, log, references=chosen.tolist())

        upstream = {"clean": clean.key, "downstream": self.facts(downstream).digest, "target": self.target(downstream)}
        settled = {
            "shadow": shadow,
            "references": settings.references,
            "head": asdict(self.head()),
            "limit": self.profile.evaluation.train,
            "trigger": asdict(self.trigger()),
        }
        return self._make(
            "attacked", {**self._common(seed), **upstream, **settled, "badencoder": asdict(config)}, compute
        )

    def target(self, downstream: str) -> int:
        """The target class, checked against the set's classes."""
        target = choose("downstream set", downstream, self.profile.targets)
        classes = self.facts(downstream).classes
        if not 0 <= target < classes:
            raise UsageError(f"target class {target} of {downstream!r} does not exist; allowed: 0 to {classes - 1}")
        return target

    def references(self, encoder: Encoder, downstream: str, seed: int) -> Tensor:
        """Rows of the training images of the target class of which the clean encoder's head is surest."""
        train, target = self.downstream(downstream)[0], self.target(downstream)
        features = extract(encoder, train.images)
        labels = train.labels.to(features.device)
        head = PROBES["head"](features, labels, len(train.classes), self.head(), seed + FRESH_ATTACKER)
        with torch.no_grad():
            scores = margins(head(features), target)
        return choose_references(scores, labels, target, self.profile.injection.references).cpu()

    # ---- the defences ------------------------------------------------------------------------------------------

    def repaired(self, start: Artefact | None, views: int, seed: int) -> Artefact:
        """SimCLR on the defender's clean share: from an encoder (fine-tuning) or from random weights (None)."""
        schedule = _schedule(self.profile.defender.optimisation, views, self.share_size())

        def compute(work: Workspace):
            encoder = self.encoder(start) if start else self.fresh(seed + FRESH_REPAIR)
            log = simclr(encoder, self.share(seed), SimCLRConfig(schedule), seed + FRESH_REPAIR, self._watch(work))
            return _trained(work, encoder, log)

        upstream = {"start": start.key if start else "random", "share": self.profile.defender.share}
        return self._make("repaired", {**self._common(seed), **upstream, "schedule": asdict(schedule)}, compute)

    def distilled(self, cell: Cell) -> Artefact:
        """A student distilled from a teacher, on the views that their own making has left over."""
        settings, budget = self.profile.distillation, self.profile.defender
        teacher, spent_teacher = choose("teacher", cell.teacher, TEACHERS)(self, cell)
        student, spent_student = choose("student", cell.student, STUDENTS)(self, cell)
        loss = resolve(cell.loss, settings.weights.get(cell.loss))
        left = budget.views - spent_teacher - spent_student
        views_per_image = VIEWS if settings.nt_xent_weight > 0 else 1  # the student's own objective needs a second view
        schedule = _schedule(budget.optimisation, left, self.share_size(), views_per_image)
        config = DistilConfig(schedule, cell.loss, loss.weight, settings.nt_xent_weight)

        def compute(work: Workspace):
            pupil = self.encoder(student) if student else self.fresh(cell.seed + FRESH_STUDENT)
            drawn, share = cell.seed + FRESH_STUDENT, self.share(cell.seed)
            log = distil(self.encoder(teacher), pupil, share, config, drawn, self._watch(work))
            return _trained(work, pupil, log)

        upstream = {"teacher": teacher.key, "student": student.key if student else "random", "share": budget.share}
        return self._make("distilled", {**self._common(cell.seed), **upstream, "distil": asdict(config)}, compute)

    def encoder_of(self, cell: Cell) -> Artefact:
        """The encoder that a row of the result table is about."""
        if cell.stage == "clean":
            return self.pretrained(cell.seed)
        if cell.stage == "attacked":
            return self.attacked(cell.seed, cell.downstream)
        if cell.defence == "distillation":
            return self.distilled(cell)
        return choose("defence", cell.defence, DEFENCES)(self, cell)

    # ---- the measurement ---------------------------------------------------------------------------------------

    def measured(self, cell: Cell, encoder: Artefact | None = None, on: str = "test") -> Artefact:
        """Every rate of a cell, by every probe; `encoder` measures another one in its place."""
        subject = encoder or self.encoder_of(cell)
        attacked = self.attacked(cell.seed, cell.downstream)

        def compute(work: Workspace):
            return None, self._measure(cell, subject, attacked, on)

        config = {
            "encoder": subject.key,
            "attacked": attacked.key,
            "on": on,
            "images": [self.facts(cell.downstream, split).digest for split in ("train", "test")],
            "limits": [self.profile.evaluation.train, self.profile.evaluation.test],
            "target": cell.target,
            "head": asdict(self.head()),
            "seed": cell.seed,
        }
        return self._make("measured", config, compute)

    def _measure(self, cell: Cell, subject: Artefact, attacked: Artefact, on: str) -> dict[str, dict[str, float]]:
        encoder = self.encoder(subject)
        train, held = (each.to(self.device) for each in self.downstream(cell.downstream, on))
        trigger = self.trigger()
        features = extract(encoder, train.images)
        seen = [extract(encoder, held.images, transform=how) for how in (None, trigger, placebo(trigger))]
        reference = self.downstream(cell.downstream)[0].images[attacked.metrics["references"][:1]]
        cosine = trigger_cos(seen[1], extract(encoder, reference))
        result = {}
        for name, probe in PROBES.items():
            scores = probe(features, train.labels, len(train.classes), self.head(), cell.seed)
            with torch.no_grad():
                predictions = [scores(each).argmax(1).cpu() for each in seen]
            result[name] = {**rates(*predictions, held.labels.cpu(), cell.target), "trigger_cos": float(cosine)}
        return result

    def head(self) -> HeadConfig:
        """The downstream head's settings."""
        settings = self.profile.evaluation
        return HeadConfig(epochs=settings.head_epochs, batch=settings.head_batch, lr=settings.head_lr)

    # ---- helpers -----------------------------------------------------------------------------------------------

    def fresh(self, seed: int) -> Encoder:
        """An encoder with random weights."""
        return build_encoder(EncoderConfig(**asdict(self.profile.encoder)), seed, self.precision).to(self.device)

    def encoder(self, artefact: Artefact) -> Encoder:
        """The encoder that an artefact holds, in eval mode."""
        encoder = self.fresh(0)
        encoder.load_state_dict(artefact.weights())
        return encoder.eval()

    def _common(self, seed: int) -> dict[str, Any]:
        return {
            "images": self.pretraining_facts.digest,
            "encoder": asdict(self.profile.encoder),
            "precision": self.precision,
            "seed": seed,
        }

    def _watch(self, work: Workspace) -> Watch:
        return Watch(work.report, work.checkpoint / "training.pt", self.checkpoint_s)

    def _make(self, kind: str, config: dict[str, Any], compute: Callable) -> Artefact:
        return self.store.make(kind, VERSIONS[kind], config, compute)


def _finetuned(stages: Stages, cell: Cell) -> tuple[Artefact, int]:
    views = stages.profile.defender.teacher_views
    return stages.repaired(stages.attacked(cell.seed, cell.downstream), views, cell.seed), views


def _warmed(stages: Stages, cell: Cell) -> tuple[Artefact, int]:
    views = stages.profile.defender.warmup_views
    return stages.repaired(None, views, cell.seed), views


# name -> (stages, cell) -> the encoder (None: random weights) and the views its making cost
TEACHERS = {
    "poisoned": lambda stages, cell: (stages.attacked(cell.seed, cell.downstream), 0),
    "finetuned": _finetuned,
}
STUDENTS = {
    "random": lambda stages, cell: (None, 0),
    "warmup": _warmed,
}
# name -> (stages, cell) -> the defended encoder; each may spend all the views
DEFENCES = {
    "clean_share": lambda stages, cell: stages.repaired(None, stages.profile.defender.views, cell.seed),
    "finetune": lambda stages, cell: stages.repaired(
        stages.attacked(cell.seed, cell.downstream), stages.profile.defender.views, cell.seed
    ),
}


def _schedule(settings: Optimisation, views: int, count: int, views_per_image: int = VIEWS) -> Schedule:
    """A schedule of as many steps as `views` pay for."""
    batch = min(settings.batch, count)
    return Schedule(max(1, views // (batch * views_per_image)), **{**asdict(settings), "batch": batch})


def _limited(images: ImageSet, most: int) -> ImageSet:
    """At most that many images, drawn once and for all: a set may come sorted by class."""
    if not most or most >= len(images):
        return images
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most].sort().values)


def _trained(work: Workspace, encoder: Encoder, log: list[dict], **metrics: Any) -> tuple[dict, dict]:
    import pandas

    pandas.DataFrame(log).to_csv(work.folder / "log.csv", index=False)
    return encoder.state_dict(), {**metrics, "last": log[-1] if log else {}}
