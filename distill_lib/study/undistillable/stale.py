"""Rows of the tables of undistillable teachers that the settings of today would not give."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distill_lib.errors import UsageError
from distill_lib.study.config.profile import Profile
from distill_lib.study.images import Facts
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.study.undistillable.cells import subject_of
from distill_lib.study.undistillable.stages import UndistillableStages
from distill_lib.vision.encoders import PRECISIONS


def checker(
    profile: Profile, known: dict[str, Facts], data_dir: Path | None = None, root: Path = Path("runs")
) -> Callable[[dict[str, str]], bool]:
    """A function that tells whether a row (as text) is stale; arguments as `distill_lib.study.stale.checker`.

    A row whose images are not to be had is kept, as there.
    """
    stages = Stages(profile, Naming(root), torch.device("cpu"), data_dir, known=known)

    def stale(row: dict[str, str]) -> bool:
        if profile.undistillable is None:
            return True
        try:
            stages.facts(row["dataset"]), stages.facts(row["dataset"], "test")
            if row["thief"] == "kd_other":
                stages.facts(profile.undistillable.others)
        except UsageError:
            return False
        named = (UndistillableStages(replace(stages, precision=each), profile.undistillable) for each in PRECISIONS)
        return not any(row["key"] == _name(each, row) for each in named)

    return stale


def _name(stages: UndistillableStages, row: dict[str, str]) -> str | None:
    try:
        if row["dataset"] != stages.settings.dataset:
            return None
        return stages.under(settings_of(row)).judged(subject_of(row)).key
    except UsageError:
        return None


def settings_of(row: dict[str, str]) -> dict[str, Any]:
    """What a row of the sweeps has off the defaults, by key of the `[undistillable]` table."""
    names, values = (list(filter(None, (row.get(column) or "").split(";"))) for column in ("setting", "value"))
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _plain(value: str) -> Any:
    """A value as its text says it in JSON; a name is its own value."""
    try:
        return json.loads(value)
    except ValueError:
        return value
