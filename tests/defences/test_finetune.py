"""Fine-tuning goes on from the suspicious weights, and batch norm re-estimates its statistics on the way."""

from copy import deepcopy
from dataclasses import replace

import torch

from distill_lib.defences.finetune import finetune
from distill_lib.training.loop import Schedule

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def test_it_starts_from_the_suspicious_weights_and_moves_the_statistics(encoder, share, settings, same):
    before = deepcopy(encoder.state_dict())
    finetune(encoder, share, replace(settings, schedule=Schedule(2, 16, lr=1e-30, weight_decay=0.0)), seed=3)
    assert same(encoder.state_dict(), before, *STATISTICS)
    moved = [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert set(moved) == {name for name in before if name.endswith(STATISTICS)}
    assert not encoder.training


def test_it_learns_the_defenders_images(encoder, share, settings, same):
    before = deepcopy(encoder.state_dict())
    log = finetune(encoder, share, replace(settings, schedule=Schedule(30, 16, lr=3e-3)), seed=3)
    assert list(log[0]) == ["step", "lr", "nt_xent"]
    assert sum(row["nt_xent"] for row in log[-5:]) < sum(row["nt_xent"] for row in log[:5])
    assert not same(encoder.state_dict(), before)
