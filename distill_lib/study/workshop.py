"""How any encoder is trained, named and kept: what attacks and defences are made with."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from distill_lib.defences.bn_reset import bn_reset as renew_statistics
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.students import reinitialise
from distill_lib.errors import choose
from distill_lib.evaluation.probes import HeadConfig
from distill_lib.study.config.settings import Optimisation
from distill_lib.study.images import Images
from distill_lib.study.store import Artefact, Workspace
from distill_lib.training.byol import BYOLConfig, byol
from distill_lib.training.device import resolve_precision
from distill_lib.training.loop import Measure, Schedule, Watch
from distill_lib.training.moco import MoCoConfig, moco
from distill_lib.training.simclr import VIEWS, SimCLRConfig, simclr
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import Encoder, build_encoder

# Raised when a change of the code changes what a stage makes; that of `measured` with that of `aimed`, whose reference
# inputs it uses.
VERSIONS = {"pretrained": 3, "untrained": 1, "attacked": 4, "aimed": 1, "repaired": 4, "distilled": 4, "measured": 1}
YOUNGER = ("mixup", "cosine_weight", "fresh_stages", "bn_reset", "cutout")  # settings that are off when falsy
PRETRAININGS = {"simclr": (simclr, SimCLRConfig), "moco": (moco, MoCoConfig), "byol": (byol, BYOLConfig)}
# Added to a seed, so that what one party draws (weights, projector, order, views) is independent of what another drew:
# the defender's contrastive trainings, the distillation with the student's weights, the teacher trained from nothing,
# the attacker's head, which is not the one that measures. Those with the same number share their draws: fine-tuning,
# fine-pruning, the warm-up and the clean share alone see the same order and views of the same images; with none added
# do so the publisher (pre-training and its random weights, which `untrained` is), the attacker's choice and order of
# shadow images, and the head that measures.
FRESH_REPAIR, FRESH_STUDENT, FRESH_TEACHER, FRESH_ATTACKER = 1000, 2000, 3000, 4000


@dataclass
class Workshop(Images):
    """The images, and the trainings over them.

    Attributes:
        precision: In place of the profile's.
        checkpoint_s: Seconds between the checkpoints of a training.
    """

    precision: str | None = None
    checkpoint_s: float = 20.0

    def __post_init__(self):
        self.precision = self.precision or resolve_precision(self.profile.precision, self.device)

    def target(self, downstream: str, seed: int) -> int:
        """The target class: a setting, or found on training images where the attack does not choose it."""
        raise NotImplementedError  # the attack's affair

    def attacked(self, seed: int, downstream: str) -> Artefact:
        """The encoder with the backdoor."""
        raise NotImplementedError  # the attack's affair

    # ---- encoders that no attack and no cell decides -------------------------------------------------------------

    def pretrained(self, seed: int) -> Artefact:
        """The clean encoder: pre-training from random weights."""
        described = self.pretraining_settings()

        def compute(work: Workspace):
            encoder = self.fresh(seed)
            log = self.pretrain(encoder, self.pretraining.images, seed, work)
            return self.trained(work, encoder, log)

        return self.make("pretrained", {**self.common(seed), **described}, compute)

    def pretrain(
        self, encoder: Encoder, images: Tensor, seed: int, work: Workspace, measure: Measure = dict
    ) -> list[dict]:
        """Pre-train an encoder in place; the log, with what `measure` gives at each of its points."""
        run, config = choose("pre-training algorithm", self.profile.pretraining.algorithm, PRETRAININGS)
        return run(
            encoder, images, config(self._pretraining_schedule()), seed, replace(self.watch(work), measure=measure)
        )

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

    # ---- settings of trainings -----------------------------------------------------------------------------------

    def defender_views(self) -> Augmentation:
        """The views of any training of the defender's."""
        return Augmentation(crop_scale=(self.profile.defender.crop, 1.0), cutout=self.profile.defender.cutout)

    def defender_schedule(self, views: int, views_per_image: int = VIEWS) -> Schedule:
        """Any training of the defender's."""
        return self.schedule(self.profile.defender.optimisation, views, self.share_size(), views_per_image)

    def schedule(self, settings: Optimisation, views: int, count: int, views_per_image: int = VIEWS) -> Schedule:
        """A schedule of as many steps as `views` pay for."""
        batch = min(settings.batch, count)
        return Schedule(max(1, views // (batch * views_per_image)), **{**asdict(settings), "batch": batch})

    def head(self) -> HeadConfig:
        """The downstream head's settings."""
        settings = self.profile.evaluation
        return HeadConfig(epochs=settings.head_epochs, batch=settings.head_batch, lr=settings.head_lr)

    def common(self, seed: int) -> dict[str, Any]:
        """What is in every training's key."""
        return {
            "images": self.pretraining_facts.digest,
            "encoder": asdict(self.profile.encoder),
            "precision": self.precision,
            "seed": seed,
        }

    # ---- encoders and artefacts ----------------------------------------------------------------------------------

    def fresh(self, seed: int) -> Encoder:
        """An encoder with random weights."""
        return build_encoder(self.profile.encoder, seed, self.precision).to(self.device)

    def encoder(self, artefact: Artefact) -> Encoder:
        """The encoder that an artefact holds, in eval mode."""
        encoder = self.fresh(0)
        encoder.load_state_dict(artefact.weights())
        return encoder.eval()

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


def without_unused(described: dict[str, Any], younger: tuple[str, ...] = YOUNGER) -> dict[str, Any]:
    """What decides a result, less the settings younger than the first results, whose keys they leave as they were."""
    inner = {k: without_unused(value, younger) if isinstance(value, dict) else value for k, value in described.items()}
    return {name: value for name, value in inner.items() if value or name not in younger}
