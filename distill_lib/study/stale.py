"""Rows that the settings of today would not give: found by naming each row's result anew, without computing it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from distill_lib.errors import UsageError
from distill_lib.study.cells import Cell
from distill_lib.study.config.profile import Profile
from distill_lib.study.images import PICTURE, Facts
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Store, key
from distill_lib.vision.encoders import PRECISIONS


class Naming(Store):
    """A store that only says under which key a result would be."""

    def make(self, kind: str, version: int | str, config: dict[str, Any], compute: Callable) -> Artefact:
        """The artefact's name; nothing is computed."""
        name = key(kind, version, config)
        return Artefact(kind, name, self.root / kind / name)


def cell_of(row: dict[str, str]) -> Cell:
    """The cell of a table's row (text)."""
    values = {each.name: row[each.name] for each in fields(Cell)}
    return Cell(**{**values, "target": int(values["target"]), "seed": int(values["seed"])})


def checker(
    profile: Profile, known: dict[str, Facts], data_dir: Path | None = None, root: Path = Path("runs")
) -> Callable[[dict[str, str]], bool]:
    """A function that tells whether a row of a result table (as text) is stale.

    A row is fresh when its key is that of its own cell under the profile, in either precision: which of them is used is
    the processor's affair. A row whose images are not to be had is kept: nothing speaks against it.

    Args:
        profile: The settings of today.
        known: Facts of the image sets, by "name/split"; what is missing there is loaded.
        data_dir: Folder of image archives.
        root: Of the artefact store, where made images are kept.
    """
    stages = Stages(profile, Naming(root), torch.device("cpu"), data_dir, known=known)

    def stale(row: dict[str, str]) -> bool:
        cell = cell_of(row)
        under = replace(stages, profile=replace(profile, pretrain=cell.pretrain))
        try:
            under.pretraining_facts  # noqa: B018 (loads)
            under.facts(cell.downstream), under.facts(cell.downstream, "test")
        except UsageError:
            return False
        return not any(row["key"] == _name(replace(under, precision=each), cell, row) for each in PRECISIONS)

    return stale


def of_another_probe(
    sweeps: Iterable[dict[str, str]], probe: str, check: Callable[[dict[str, str]], bool]
) -> Callable[[dict[str, str]], bool]:
    """A check that also tells rows of a primary probe which is no longer the primary one.

    A measurement's key holds all probes, and the primary one's rows do not name it. So a row without a probe is of
    another one where `sweeps`, the table of the others, has `probe` for the same measurement.
    """
    others = [row for row in sweeps if _settings(row).get("probe") == probe]
    keys = {row["key"] for row in others}
    return lambda row: (row["key"] in keys and "probe" not in _settings(row)) or check(row)


def _settings(row: dict[str, str]) -> dict[str, str]:
    """What a row has off the defaults, as text."""
    return dict(zip((row.get("setting") or "").split(";"), (row.get("value") or "").split(";"), strict=False))


def _name(stages: Stages, cell: Cell, row: dict[str, str]) -> str | None:
    settings = _settings(row)
    if settings.get("probe") == stages.profile.evaluation.probe:
        return None  # the primary probe's rows do not name it
    try:
        own = {"attack": cell.attack, "downstream": (cell.downstream,), "compared": cell.downstream}
        stages = replace(stages, profile=replace(stages.profile, **own))
        varied = {name: _plain(value) for name, value in settings.items() if "." in name}
        stages = replace(stages, profile=stages.profile.varied(varied)) if varied else stages
        if stages.backdoor.settled and stages.target(cell.downstream, cell.seed) != cell.target:
            return None
        other = stages.untrained(cell.seed) if settings.get("encoder") == "random" else None
        return stages.measured(cell, encoder=other).key
    except UsageError:
        return None


def _plain(value: str) -> Any:
    """A setting's value as its text says it in JSON; a name is its own value."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def known_facts(manifest: Path) -> dict[str, Facts]:
    """The image sets' facts that a manifest recorded, less those of pictures, which settings decide."""
    data = json.loads(manifest.read_text(encoding="utf-8"))["data"]
    return {where: Facts(**facts) for where, facts in data.items() if not where.startswith(PICTURE)}
