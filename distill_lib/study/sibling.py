"""What the sibling studies share: their images, and how their results are named, trained and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas

from distill_lib.data import ImageSet
from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.study.images import Facts, limited
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workshop import without_unused
from distill_lib.training.loop import Watch

YOUNGER = ("renew", "scaled")  # settings that are off when falsy, and then in no key


def measured_on(seed: int) -> str:
    """`test` for reported seeds; exploration seeds, which settings are chosen on, never see a test image."""
    return "validation" if seed >= EXPLORATION_SEEDS else "test"


@dataclass
class SiblingStages:
    """The stages of a study beside the first one.

    Attributes:
        stages: Those of the first study: images, store, device and precision are theirs.
        settings: The profile's table; has `dataset`, and `test`, the most test images used (0: all).
        versions: Of each kind of artefact: raised when a change of the code changes what a stage makes.
    """

    versions: ClassVar[dict[str, int]] = {}

    stages: Stages
    settings: Any

    def images(self, seed: int) -> ImageSet:
        """The labelled images that a seed's networks are trained on, on the device."""
        return self._parts(seed)[0].to(self.stages.device)

    def test_images(self, seed: int, most: int = 0) -> ImageSet:
        """The images that a seed is measured on, or a fixed sample of them: see `measured_on`."""
        limit = min(filter(None, (most, self.settings.test)), default=0)
        return limited(self._parts(seed)[1], limit).to(self.stages.device)

    def _parts(self, seed: int) -> tuple[ImageSet, ImageSet]:
        return self.stages.parts(self.settings.dataset, measured_on(seed))

    def facts(self) -> Facts:
        """Source, hash and size of the image set."""
        return self.stages.facts(self.settings.dataset)

    def held(self, seed: int) -> list[Any]:
        """What decides the images that a seed is measured on, for keys."""
        if measured_on(seed) == "validation":
            return [self.facts().digest, "validation", self.settings.test]
        return [self.stages.facts(self.settings.dataset, "test").digest, self.settings.test]

    def common(self, seed: int) -> dict[str, Any]:
        """What is in every training's key."""
        shared = {"images": self.facts().digest, "precision": self.stages.precision, "seed": seed}
        return {**shared, "on": "validation"} if measured_on(seed) == "validation" else shared

    def make(self, kind: str, config: dict[str, Any], compute: Callable) -> Artefact:
        """Find or compute an artefact."""
        return self.stages.store.make(kind, self.versions[kind], without_unused(config, YOUNGER), compute)

    def watch(self, work: Workspace) -> Watch:
        """Where a training reports and keeps its checkpoint."""
        return self.stages.watch(work)


def keep_log(work: Workspace, log: list[dict]) -> None:
    """Put a training's log beside its artefact."""
    pandas.DataFrame(log).to_csv(work.folder / "log.csv", index=False)
