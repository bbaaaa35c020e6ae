"""Rows of the data-free tables that the settings of today would not give."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from distill_lib.errors import UsageError
from distill_lib.study.config.profile import Profile
from distill_lib.study.datafree.cells import subject_of
from distill_lib.study.datafree.stages import DataFreeStages
from distill_lib.study.images import Facts
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.vision.encoders import PRECISIONS


def checker(
    profile: Profile, known: dict[str, Facts], data_dir: Path | None = None, root: Path = Path("runs")
) -> Callable[[dict[str, str]], bool]:
    """A function that tells whether a row (as text) is stale; arguments as `distill_lib.study.stale.checker`.

    A row whose images are not to be had is kept, as there.
    """
    stages = Stages(profile, Naming(root), torch.device("cpu"), data_dir, known=known)

    def stale(row: dict[str, str]) -> bool:
        if profile.datafree is None:
            return True
        try:
            stages.facts(row["dataset"]), stages.facts(row["dataset"], "test")
            if row.get("value"):
                stages.facts(row["value"])
        except UsageError:
            return False
        named = (DataFreeStages(replace(stages, precision=each), profile.datafree) for each in PRECISIONS)
        return not any(row["key"] == _name(each, row) for each in named)

    return stale


def _name(stages: DataFreeStages, row: dict[str, str]) -> str | None:
    try:
        subject = subject_of(row)
        if (subject.dataset, subject.target) != (stages.settings.dataset, stages.settings.target):
            return None
        return stages.rated(subject, row.get("value") or "").key
    except UsageError:
        return None
