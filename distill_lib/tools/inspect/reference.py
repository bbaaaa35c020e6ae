"""Scores of clean encoders, in a file: what the score of a suspect is held against."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill_lib.defences.inversion import InversionConfig
from distill_lib.errors import UsageError
from distill_lib.evaluation.detection import FEWEST_CLEAN, Threshold, threshold
from distill_lib.study.store import write_json, writing

KEYS = ("inversion", "parameters", "images", "scores")


@dataclass(frozen=True)
class CleanScores:
    """What clean encoders of one size score.

    Attributes:
        inversion: Settings of the search; scores of other settings are not comparable.
        parameters: Of each encoder.
        images: How many images each was inspected with.
        scores: The sizes found.
    """

    inversion: InversionConfig
    parameters: int
    images: int
    scores: tuple[float, ...]

    def threshold(self, rate: float) -> Threshold:
        """Below which a clean encoder of this size falls with chance `rate`.

        Raises:
            UsageError: If there are too few scores.
        """
        try:
            return threshold(self.scores, rate)
        except ValueError:
            raise UsageError(
                f"{len(self.scores)} clean scores and a rate of {rate} draw no threshold; "
                f"allowed: {FEWEST_CLEAN} scores or more, a rate between 0 and 1"
            ) from None

    def check_fits(self, inversion: InversionConfig, parameters: int) -> None:
        """See whether a suspect is inspected as these were.

        Raises:
            UsageError: If size or settings differ.
        """
        if parameters != self.parameters:
            raise UsageError(
                f"the clean scores are of encoders of {self.parameters:,} parameters, the suspect has "
                f"{parameters:,}; allowed: the same size"
            )
        mine, theirs = asdict(inversion), asdict(self.inversion)
        other = [f"{name} {theirs[name]}" for name in mine if mine[name] != theirs[name]]
        if other:
            raise UsageError(f"the clean scores were made at {', '.join(other)}; allowed: the same settings")

    def write(self, path: Path) -> None:
        """Write the file, in one step."""
        with writing(Path(path).parent):
            write_json(Path(path), asdict(self))


def read_scores(path: Path | str) -> CleanScores:
    """Read such a file.

    Raises:
        UsageError: If it is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return _scores(content)
    except OSError as error:
        raise UsageError(f"clean scores {str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:  # a UsageError of the settings is a ValueError too
        raise UsageError(f"clean scores {str(path)!r} are no such file ({error}); allowed: {', '.join(KEYS)}") from None


def _scores(content: Any) -> CleanScores:
    if not isinstance(content, dict) or set(content) != set(KEYS):
        raise ValueError(f"its keys are {', '.join(map(str, content))}")
    scores = tuple(float(each) for each in content["scores"])
    if not all(math.isfinite(each) and 0 < each <= 1 for each in scores):
        raise ValueError("scores lie above 0 and are at most 1")
    return CleanScores(
        InversionConfig(**content["inversion"]), int(content["parameters"]), int(content["images"]), scores
    )
