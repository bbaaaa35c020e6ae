"""The profile `gpu` on a CPU: its own encoder depth, attacks and defences, at a size that takes seconds."""

import numpy as np
import pytest

from distill_lib.study.session import open_study

SMALL = {
    "encoder.width": 16,
    "encoder.stem_stride": 4,
    "pretraining.epochs": 1,
    "pretraining.optimisation.batch": 64,
    "pretraining.optimisation.warmup": 1,
    "injection.epochs": 1,
    "injection.shadow": 64,
    "injection.optimisation.batch": 32,
    "defender.share": 0.2,
    "defender.views": 512,
    "defender.optimisation.batch": 32,
    "evaluation.head_epochs": 1,
}
CLASSES = {"cifar10": 10, "gtsrb": 43}


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """The study on small archives of random pixels in the real data sets' layout."""
    draw = np.random.default_rng(0)
    for name, classes in CLASSES.items():
        (tmp_path / name).mkdir()
        for split, count in (("train", 258), ("test", 86)):
            images = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            np.savez(tmp_path / name / f"{split}.npz", x=images, y=np.arange(count) % classes)
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "runs"))
    return open_study("gpu", seeds=[0], device="cpu", overrides=SMALL)


def test_every_attack_gets_its_headline_cells(gpu):
    assert gpu.profile.encoder.depth == 18
    attacked = gpu.everywhere()
    defended = [cell for name in ("finetune", "clean_share") for cell in gpu.defence(attacked, name)]
    clean = [gpu.clean(cell.downstream, cell.seed, cell.attack) for cell in attacked]
    rows = gpu.measure([*clean, *attacked, *gpu.recipe(attacked), *defended])
    assert rows["acc"].between(0, 100).all()
    assert set(rows["n_test"]) <= {86}
    sets = {("badencoder", "gtsrb"), ("badencoder", "cifar10"), ("poisoned_data", "cifar10"), ("ctrl", "cifar10")}
    assert sets <= set(zip(rows["attack"], rows["downstream"], strict=True))
    assert len(rows) == 5 * len(attacked)
