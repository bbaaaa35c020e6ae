"""The stages: each gives an artefact, found in the store or computed from the artefacts below it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_lib.data import ImageSet, clean_share, holdout, load
from distill_lib.data.splits import FEWEST
from distill_lib.datafree.picture import patches
from distill_lib.defences.bn_reset import bn_reset as renew_statistics
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import resolve
from distill_lib.distillation.students import reinitialise
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES, HeadConfig
from distill_lib.evaluation.rates import rates, trigger_cos
from distill_lib.study.backdoors import BACKDOORS, Backdoor
from distill_lib.study.cells import Cell
from distill_lib.study.components import DEFENCES, FRESH_STUDENT, STUDENTS, TEACHERS
from distill_lib.study.config.profile import Profile
from distill_lib.study.config.settings import Optimisation
from distill_lib.study.store import Artefact, Store, Workspace
from distill_lib.training.byol import BYOLConfig, byol
from distill_lib.training.device import resolve_precision
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.moco import MoCoConfig, moco
from distill_lib.training.simclr import VIEWS, SimCLRConfig, simclr
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import Encoder, build_encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger, placebo

# Raised when a change of the code changes what a stage makes.
VERSIONS = {"pretrained": 3, "untrained": 1, "attacked": 4, "repaired": 4, "distilled": 4, "measured": 1}
YOUNGER = ("mixup", "cosine_weight", "fresh_stages", "bn_reset", "cutout")  # settings that are off when falsy
VALIDATION_SHARE = 0.2
SIDE = 32  # pixels, of every image set here
PRETRAININGS = {"simclr": (simclr, SimCLRConfig), "moco": (moco, MoCoConfig), "byol": (byol, BYOLConfig)}


@dataclass(frozen=True)
class Facts:
    """What the keys need to know of an image set: enough to name a result without the images at hand."""

    source: str
    digest: str
    count: int
    classes: int


@dataclass
class Stages:
    """Everything the study makes, for one profile and its main attack, on one device.

    Attributes:
        profile: All settings.
        store: Where artefacts are.
        device: Where they are computed; no part of any key.
        data_dir: Folder of image archives.
        known: Facts of image sets by "name/split", for naming results without the images.
        precision: In place of the profile's.
        checkpoint_s: Seconds between the checkpoints of a training.
        sets: Image sets loaded so far.
    """

    profile: Profile
    store: Store
    device: torch.device
    data_dir: Path | None = None
    known: dict[str, Facts] = field(default_factory=dict)
    precision: str | None = None
    checkpoint_s: float = 20.0
    sets: dict[tuple[str, str], ImageSet] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.precision = self.precision or resolve_precision(self.profile.precision, self.device)

    def under(self, profile: Profile) -> "Stages":
        """The stages of other settings; images and store are shared."""
        return self if profile == self.profile else replace(self, profile=profile)

    @property
    def backdoor(self) -> Backdoor:
        """The main attack."""
        return choose("attack", self.profile.attack, BACKDOORS)

    # ---- images ------------------------------------------------------------------------------------------------

    def images(self, name: str, split: str = "train") -> ImageSet:
        """An image set, loaded once; the pre-training set is the unlabelled split where there is one."""
        if (name, split) not in self.sets:
            if name == "picture":
                images = picture_patches(self.profile)
            else:
                images = load(name, split, data_dir=self.data_dir, cache_dir=self.store.root / "data")
            if images.images.shape[-2:] != (SIDE, SIDE):
                height, width = images.images.shape[-2:]
                raise UsageError(f"the images of {name!r} are {height} x {width} pixels; allowed: {SIDE} x {SIDE}")
            self.sets[name, split] = images
        return self.sets[name, split]

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
        """A fixed sample of the test set; 0: all of it."""
        return _limited(self.images(name, "test"), count)

    def shadow_size(self) -> int:
        """How many images BadEncoder's attacker holds."""
        count = self.pretraining_facts.count
        return min(self.profile.injection.shadow, count) or count

    def shadow(self, seed: int) -> Tensor:
        """Rows of the pre-training set that they are, (N,)."""
        order = torch.randperm(self.pretraining_facts.count, generator=torch.Generator().manual_seed(seed))
        return order[: self.shadow_size()]

    def share(self, seed: int) -> Tensor:
        """The defender's images, uint8 (N, 3, H, W): clean, unless the profile contaminates them.

        Raises:
            UsageError: As `check_share`.
        """
        self.check_share()
        settings, images = self.profile.defender, self.pretraining
        if settings.source:
            images = self.images(settings.source).to(self.device)
        if settings.disjoint:
            images = _without(images, self.shadow(seed))
        chosen = clean_share(images, min(1.0, self.share_size() / len(images)), seed).images
        spoilt = round(settings.contaminated * len(chosen))
        return torch.cat([self.trigger()(chosen[:spoilt]), chosen[spoilt:]]) if spoilt else chosen

    def share_size(self) -> int:
        """How many they are: a share of the pre-training set, wherever they come from."""
        return round(self.profile.defender.share * self.pretraining_facts.count)

    def check_share(self) -> None:
        """See from sizes alone whether the defender's images can be had.

        Raises:
            UsageError: If there are too few, none outside the attacker's shadow images, or none to contaminate.
        """
        settings, (name, there) = self.profile.defender, (self.profile.pretrain, self.pretraining_facts.count)
        if settings.source:
            name, there = settings.source, self.facts(settings.source).count
        if settings.disjoint:
            there -= self.shadow_size()
            if there <= 0:
                raise UsageError(
                    f"defender.disjoint leaves no image, as the attacker holds all {self.shadow_size()}; "
                    "allowed: with injection.shadow below that"
                )
        count = min(self.share_size(), there)
        if count < FEWEST:
            raise UsageError(
                f"defender.share {settings.share} gives the defender {count} images of {name!r}; "
                f"allowed: {FEWEST} images or more"
            )
        if settings.contaminated and not round(settings.contaminated * count):
            raise UsageError(
                f"defender.contaminated {settings.contaminated} of the defender's {count} images is not one image; "
                f"allowed: 0, or more than {0.5 / count:.2g}"
            )

    def share_settings(self) -> Any:
        """What decides the defender's images, for keys; the share alone where the rest is as usual."""
        settings = self.profile.defender
        other: dict[str, Any] = {}
        if settings.source:
            other["source"] = self.facts(settings.source).digest
        if settings.disjoint:
            other["shadow"] = self.shadow_size()
        if settings.contaminated:
            other |= {"contaminated": settings.contaminated, "trigger": asdict(self.trigger())}
        return {"share": settings.share, **other} if other else settings.share

    # ---- before and after the attack -----------------------------------------------------------------------------

    def trigger(self) -> Trigger:
        """The attacker's trigger, for images of 32 pixels, which every set has here."""
        return self.backdoor.trigger(self.profile)

    def target(self, downstream: str, seed: int) -> int:
        """The target class: a setting, or found on training images where the attack does not choose it."""
        return self.backdoor.target(self, seed, downstream)

    def aimed(self, cell: Cell) -> Cell:
        """The cell with the target class that its attack has under these settings: another encoder may have another."""
        return cell if self.backdoor.settled else replace(cell, target=self.target(cell.downstream, cell.seed))

    def references(self, downstream: str, seed: int) -> list[int]:
        """Rows of downstream training images that triggered images are to look like, the first above all."""
        return self.backdoor.references(self, seed, downstream)

    def pretrained(self, seed: int) -> Artefact:
        """The clean encoder: pre-training from random weights."""
        described = self.pretraining_settings()

        def compute(work: Workspace):
            encoder = self.fresh(seed)
            log = self.pretrain(encoder, self.pretraining.images, seed, work)
            return self.trained(work, encoder, log)

        return self.make("pretrained", {**self.common(seed), **described}, compute)

    def pretrain(self, encoder: Encoder, images: Tensor, seed: int, work: Workspace) -> list[dict]:
        """Pre-train an encoder in place; the log."""
        run, config = choose("pre-training algorithm", self.profile.pretraining.algorithm, PRETRAININGS)
        return run(encoder, images, config(self._pretraining_schedule()), seed, self.watch(work))

    def pretraining_settings(self) -> dict[str, Any]:
        """Schedule and algorithm, for keys; SimCLR goes without saying."""
        algorithm = self.profile.pretraining.algorithm
        schedule = {"schedule": asdict(self._pretraining_schedule())}
        return schedule if algorithm == "simclr" else {**schedule, "algorithm": algorithm}

    def _pretraining_schedule(self) -> Schedule:
        settings, count = self.profile.pretraining, self.pretraining_facts.count
        return self.schedule(settings.optimisation, settings.epochs * count * VIEWS, count)

    def untrained(self, seed: int) -> Artefact:
        """Random weights: the floor under every encoder."""
        return self.make("untrained", self.common(seed), lambda work: (self.fresh(seed).state_dict(), {}))

    def attacked(self, seed: int, downstream: str) -> Artefact:
        """The encoder with the backdoor."""
        return self.backdoor.attacked(self, seed, downstream)

    # ---- the defences --------------------------------------------------------------------------------------------

    def distilled(self, cell: Cell) -> Artefact:
        """A student distilled from a teacher, on the views that their own making has left over."""
        settings = self.profile.distillation
        config = self.distillation(cell.teacher, cell.student, cell.loss)
        teacher, student = TEACHERS[cell.teacher].make(self, cell), STUDENTS[cell.student].make(self, cell)
        start_end = {name: getattr(settings, name) for name in ("fresh_stages", "bn_reset")}
        return self.distilled_from(teacher, student, config, cell.seed, **start_end)

    def distillation(self, teacher: str, student: str, loss: str) -> DistilConfig:
        """Settings of a distillation, as long as the views that teacher and student leave over pay for."""
        settings, budget = self.profile.distillation, self.profile.defender
        parts = choose("teacher", teacher, TEACHERS), choose("student", student, STUDENTS)
        weight = resolve(loss, settings.weights.get(loss)).weight
        same = {name: getattr(settings, name) for name in ("nt_xent_weight", "mixup", "cosine_weight")}
        same |= {"weight": weight, "augmentation": self.defender_views()}
        config = DistilConfig(self.defender_schedule(VIEWS), loss, **same)  # tells the views a step takes
        left = budget.views - sum(part.views(budget) for part in parts)
        schedule = self.defender_schedule(left, config.views_per_image)
        if settings.steps:
            schedule = replace(schedule, steps=settings.steps)
        return replace(config, schedule=schedule)

    def distilled_from(
        self,
        teacher: Artefact,
        student: Artefact | None,
        config: DistilConfig,
        seed: int,
        fresh_stages: int = 0,
        bn_reset: bool = False,
    ) -> Artefact:
        """A student (None: of random weights) distilled from a teacher."""

        def compute(work: Workspace):
            drawn = seed + FRESH_STUDENT
            pupil = self.encoder(student) if student else self.fresh(drawn)
            reinitialise(pupil, self.fresh(drawn), fresh_stages)
            log = distil(self.encoder(teacher), pupil, self.share(seed), config, drawn, self.watch(work))
            if bn_reset:
                renew_statistics(pupil, self.share(seed), seed=seed)
            return self.trained(work, pupil, log)

        upstream = {"teacher": teacher.key, "student": student.key if student else "random"}
        around = {"fresh_stages": fresh_stages, "bn_reset": bn_reset}
        described = {**upstream, "share": self.share_settings(), "distil": asdict(config), **around}
        return self.make("distilled", {**self.common(seed), **described}, compute)

    def defender_views(self) -> Augmentation:
        """The views of any training of the defender's."""
        return Augmentation(crop_scale=(self.profile.defender.crop, 1.0), cutout=self.profile.defender.cutout)

    def defender_schedule(self, views: int, views_per_image: int = VIEWS) -> Schedule:
        """Any training of the defender's."""
        return self.schedule(self.profile.defender.optimisation, views, self.share_size(), views_per_image)

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
            return None, self._measure(cell, subject, on)

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
        return self.make("measured", config, compute)

    def _measure(self, cell: Cell, subject: Artefact, on: str) -> dict[str, dict[str, float]]:
        encoder = self.encoder(subject)
        train, held = (each.to(self.device) for each in self.downstream(cell.downstream, on))
        trigger = self.trigger()
        features = extract(encoder, train.images)
        seen = [extract(encoder, held.images, transform=how) for how in (None, trigger, placebo(trigger))]
        reference = self.downstream(cell.downstream)[0].images[self.references(cell.downstream, cell.seed)[:1]]
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

    # ---- helpers -------------------------------------------------------------------------------------------------

    def fresh(self, seed: int) -> Encoder:
        """An encoder with random weights."""
        return build_encoder(self.profile.encoder, seed, self.precision).to(self.device)

    def encoder(self, artefact: Artefact) -> Encoder:
        """The encoder that an artefact holds, in eval mode."""
        encoder = self.fresh(0)
        encoder.load_state_dict(artefact.weights())
        return encoder.eval()

    def common(self, seed: int) -> dict[str, Any]:
        """What is in every training's key."""
        return {
            "images": self.pretraining_facts.digest,
            "encoder": asdict(self.profile.encoder),
            "precision": self.precision,
            "seed": seed,
        }

    def schedule(self, settings: Optimisation, views: int, count: int, views_per_image: int = VIEWS) -> Schedule:
        """A schedule of as many steps as `views` pay for."""
        batch = min(settings.batch, count)
        return Schedule(max(1, views // (batch * views_per_image)), **{**asdict(settings), "batch": batch})

    def made(
        self, kind: str, seed: int, described: dict[str, Any], start: Artefact | None, change: Callable, fresh: int = 0
    ) -> Artefact:
        """An encoder changed in place by `change(encoder, work) -> (log, metrics)`.

        Args:
            kind: Of artefact.
            seed: Of the cell.
            described: All that decides the change, for the key.
            start: The encoder to change; None: one of random weights.
            change: Changes it.
            fresh: Added to the seed of the random weights.
        """

        def compute(work: Workspace):
            encoder = self.encoder(start) if start else self.fresh(seed + fresh)
            log, metrics = change(encoder, work)
            return self.trained(work, encoder, log, **metrics)

        config = {**self.common(seed), "start": start.key if start else "random", **described}
        return self.make(kind, config, compute)

    def make(self, kind: str, config: dict[str, Any], compute: Callable) -> Artefact:
        """Find or compute an artefact."""
        return self.store.make(kind, VERSIONS[kind], without_unused(config), compute)

    def watch(self, work: Workspace) -> Watch:
        """Where a training reports and keeps its checkpoint."""
        return Watch(work.report, work.checkpoint / "training.pt", self.checkpoint_s, saved=work.kept)

    @staticmethod
    def trained(work: Workspace, encoder: Encoder, log: list[dict], **metrics: Any) -> tuple[dict, dict]:
        """What an encoder's computation gives to the store."""
        import pandas

        pandas.DataFrame(log).to_csv(work.folder / "log.csv", index=False)
        return encoder.state_dict(), {**metrics, "last": log[-1] if log else {}}


def picture_patches(profile: Profile) -> ImageSet:
    """The image set `picture`: unlabelled patches of the data-free study's one picture.

    Raises:
        UsageError: If the profile has no data-free study.
    """
    if profile.datafree is None:
        raise UsageError("image set 'picture' is cut as the [datafree] table says; allowed: with such a table")
    images = patches(profile.datafree.ood.patches, 0)
    return ImageSet("picture", "train", images, torch.full((len(images),), -1), (), "builtin")


def without_unused(described: dict[str, Any]) -> dict[str, Any]:
    """What decides a result, less the settings younger than the first results, whose keys they leave as they were."""
    inner = {name: without_unused(value) if isinstance(value, dict) else value for name, value in described.items()}
    return {name: value for name, value in inner.items() if value or name not in YOUNGER}


def _without(images: ImageSet, rows: Tensor) -> ImageSet:
    """The images that are not among the rows."""
    keep = torch.ones(len(images), dtype=torch.bool)
    keep[rows] = False
    return images.subset(keep.to(images.labels.device))


def _limited(images: ImageSet, most: int) -> ImageSet:
    """At most that many images, drawn once and for all: a set may come sorted by class."""
    if not most or most >= len(images):
        return images
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most].sort().values)
