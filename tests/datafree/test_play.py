"""The loop of two optimisers: one step by hand, what it reports, what stops it."""

import pytest
import torch
from torch import nn

from distill_lib.datafree.play import Play, descend, run
from distill_lib.training.loop import Watch


def test_a_step_touches_its_own_parameters_alone():
    own, other = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0, 4.0]))
    descend(torch.optim.SGD([own], 9.0), (own * other).sum(), rate=0.1)
    assert own.tolist() == pytest.approx([0.7, 1.6])
    assert other.tolist() == [3.0, 4.0]
    assert own.grad is None is other.grad


def test_the_gradient_is_clipped():
    own = nn.Parameter(torch.zeros(2))
    descend(torch.optim.SGD([own], 1.0), (own * torch.tensor([30.0, 40.0])).sum(), rate=1.0, clip=5.0)
    assert own.tolist() == pytest.approx([-3.0, -4.0], rel=1e-4)


def play(turns, values=lambda number: {"loss": torch.tensor(float(number))}):
    modules = nn.ModuleDict({"model": nn.Linear(1, 1)})
    return Play(modules, {}, lambda number, _source: values(number), turns, lambda number: number / 10)


def test_the_log_keeps_each_terms_last_value():
    kinds = run(play(4, lambda n: {"even" if n % 2 == 0 else "odd": torch.tensor(float(n))}), 0)
    assert kinds[-1] == {"step": 4, "lr": 0.3, "even": 2.0, "odd": 3.0}
    assert [row["step"] for row in run(play(100), 0, Watch(log_points=4))] == [25, 50, 75, 100]
    assert run(play(0), 0) == []


def test_a_loss_that_is_no_number_stops_it():
    with pytest.raises(FloatingPointError, match="no longer finite at turn 2"):
        run(play(5, lambda n: {"loss": torch.tensor(float("nan") if n else 0.0)}), 0)
