"""What the sibling studies share: their images, and how their results are named, trained and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas

from distill_lib.data import ImageSet
from distill_lib.study.images import Facts
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace
from distill_lib.training.loop import Watch


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

    def images(self) -> ImageSet:
        """The labelled images that networks are trained on, on the device."""
        return self.stages.images(self.settings.dataset).to(self.stages.device)

    def test_images(self, most: int = 0) -> ImageSet:
        """The test images used, or a fixed sample of them."""
        limit = min(filter(None, (most, self.settings.test)), default=0)
        return self.stages.limited_test(self.settings.dataset, limit).to(self.stages.device)

    def facts(self) -> Facts:
        """Source, hash and size of the image set."""
        return self.stages.facts(self.settings.dataset)

    def held(self) -> list[Any]:
        """What decides the test images, for keys."""
        return [self.stages.facts(self.settings.dataset, "test").digest, self.settings.test]

    def common(self, seed: int) -> dict[str, Any]:
        """What is in every training's key."""
        return {"images": self.facts().digest, "precision": self.stages.precision, "seed": seed}

    def make(self, kind: str, config: dict[str, Any], compute: Callable) -> Artefact:
        """Find or compute an artefact."""
        return self.stages.store.make(kind, self.versions[kind], config, compute)

    def watch(self, work: Workspace) -> Watch:
        """Where a training reports and keeps its checkpoint."""
        return self.stages.watch(work)


def keep_log(work: Workspace, log: list[dict]) -> None:
    """Put a training's log beside its artefact."""
    pandas.DataFrame(log).to_csv(work.folder / "log.csv", index=False)
