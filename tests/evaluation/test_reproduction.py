import math

import pandas as pd

from distill_lib.evaluation.published import load_published
from distill_lib.evaluation.reproduction import TWINS, reproduction


def rows(*cells) -> pd.DataFrame:
    names = ("attack", "pretrain", "downstream", "stage", "seed", "acc", "asr_all")
    return pd.DataFrame(cells, columns=names)


TABLE = rows(
    ("badencoder", "cifar10", "gtsrb", "clean", 0, 40.0, 1.0),
    ("badencoder", "cifar10", "gtsrb", "clean", 1, 42.0, 3.0),
    ("badencoder", "cifar10", "gtsrb", "clean", 100, 90.0, 90.0),
    ("badencoder", "builtin", "gtsrb", "clean", 0, 10.0, 10.0),
    ("ctrl", "cifar10", "cifar10", "attacked", 0, 50.0, 77.0),
)


def test_ours_is_the_mean_over_reported_seeds_of_the_same_cell():
    found = reproduction(TABLE, TABLE.iloc[:0], lambda attack: f"a small encoder, {attack or 'clean'}").set_index(
        ["attack", "downstream", "stage", "rate"]
    )
    acc = found.loc[("badencoder", "gtsrb", "clean", "acc")]
    assert (acc["published"], acc["ours"], acc["n"], acc["seeds"]) == (81.84, 41.0, 2, "0, 1")
    assert found.loc[("badencoder", "gtsrb", "clean", "asr_all"), "ours"] == 2.0
    assert found.loc[("ctrl", "cifar10", "attacked", "asr_all"), "ours"] == 77.0
    assert "SimCLR 1000 epochs" in acc["difference"]
    assert "ours: a small encoder, badencoder" in acc["difference"]
    assert "ours: a small encoder, clean" in found.loc[("", "cifar10", "clean", "acc (knn)"), "difference"]


def test_what_was_not_measured_is_empty():
    found = reproduction(TABLE, TABLE.iloc[:0], str).set_index(["attack", "downstream", "stage", "rate"])
    row = found.loc[("badencoder", "svhn", "attacked", "asr_all")]
    assert math.isnan(row["ours"])
    assert (row["n"], row["published"]) == (0, 99.14)
    assert found.loc[("", "cifar10", "clean", "acc (knn)"), "n"] == 0


def test_a_clean_encoder_is_the_same_under_any_attack():
    """And counts once a seed, whatever was run beside it."""
    knn = rows(
        ("ctrl", "cifar10", "cifar10", "clean", 0, 60.0, 1.0), ("ctrl", "cifar10", "cifar10", "attacked", 0, 9.0, 1.0),
        ("badencoder", "cifar10", "cifar10", "clean", 0, 60.0, 1.0),
        ("badencoder", "cifar10", "cifar10", "clean", 1, 50.0, 1.0),
    )  # fmt: skip
    found = reproduction(TABLE, knn, str).set_index(["attack", "downstream", "stage", "rate"])
    assert found.loc[("", "cifar10", "clean", "acc (knn)"), ["ours", "n"]].tolist() == [55.0, 2]


def test_each_published_number_on_cifar10_encoders_has_its_row():
    known = {name for name in load_published() if name.startswith("badencoder.cifar10.")}
    assert {twin.name for twin in TWINS} == known | {"ctrl.asr"}
