"""The reproduction table: our number beside every published one of the same cell, and how the set-ups differ."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from distill_lib.evaluation.cells import EXPLORATION_SEEDS, pick
from distill_lib.evaluation.published import published

COLUMNS = (
    "attack",
    "pretrain",
    "downstream",
    "stage",
    "rate",
    "published",
    "ours",
    "n",
    "seeds",
    "difference",
    "source",
)


@dataclass(frozen=True)
class Twin:
    """A published number and the cell of ours that it is about.

    Attributes:
        name: Of the published number.
        attack: Our cell; empty: any, for an encoder that no attack has changed.
        pretrain: Our cell.
        downstream: Our cell.
        stage: Our cell.
        rate: Column of the result table.
        probe: By which classifier; empty: the profile's own.
    """

    name: str
    attack: str
    pretrain: str
    downstream: str
    stage: str
    rate: str
    probe: str = ""


_BADENCODER = {
    "clean_acc": ("clean", "acc"),
    "attacked_acc": ("attacked", "acc"),
    "asr_all": ("attacked", "asr_all"),
    "clean_asr_all": ("clean", "asr_all"),
}
# Numbers of other encoders (ImageNet, CLIP), of supervised classifiers and of averages have no cell here.
TWINS = (
    *(
        Twin(f"badencoder.cifar10.{downstream}.{number}", "badencoder", "cifar10", downstream, *cell)
        for downstream in ("gtsrb", "svhn", "stl10")
        for number, cell in _BADENCODER.items()
    ),
    Twin("badencoder.cifar10.knn_acc", "", "cifar10", "cifar10", "clean", "acc", probe="knn"),
    Twin("ctrl.asr", "ctrl", "cifar10", "cifar10", "attacked", "asr_all"),
)


def reproduction(table: pd.DataFrame, knn: pd.DataFrame, setup: Callable[[str], str]) -> pd.DataFrame:
    """Every published number that has a cell here, ours beside it: means over the reported seeds.

    Args:
        table: distillation.csv.
        knn: Its rows by the kNN probe (in sweeps.csv).
        setup: attack (or none, empty) -> what this profile does, in words; stands beside what the publication did.

    Returns:
        One row a published number; `ours` is empty and n is 0 where this profile has not measured the cell.
    """
    return pd.DataFrame(
        [_row(twin, knn if twin.probe == "knn" else table, setup) for twin in TWINS], columns=list(COLUMNS)
    )


def _row(twin: Twin, table: pd.DataFrame, setup: str) -> dict:
    known = published(twin.name)
    where = {name: getattr(twin, name) for name in ("attack", "pretrain", "downstream", "stage")}
    found = pick(table, {name: value for name, value in where.items() if value})
    found = found[pd.to_numeric(found["seed"]) < EXPLORATION_SEEDS]
    if not twin.attack:  # a clean encoder has a row for each attack that was run beside it
        found = found.drop_duplicates("seed")
    values, seeds = pd.to_numeric(found[twin.rate]), sorted({int(seed) for seed in found["seed"]})
    about = {"rate": f"{twin.rate} ({twin.probe})" if twin.probe else twin.rate, "published": known.value}
    ours = {"ours": values.mean(), "n": len(seeds), "seeds": ", ".join(map(str, seeds))}
    return {
        **where,
        **about,
        **ours,
        "difference": f"theirs: {known.note}; ours: {setup(twin.attack)}",
        "source": known.source,
    }
