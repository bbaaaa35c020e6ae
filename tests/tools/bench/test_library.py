import pytest
import torch

from distill_lib.tools.bench import library
from distill_lib.tools.bench.library import Stamps


def test_the_clock_runs_from_the_first_report_to_the_last(monkeypatch):
    times = iter([10.0, 12.0, 13.0, 16.0])
    monkeypatch.setattr(library, "now", lambda device: next(times))
    stamps = Stamps(torch.device("cpu"))
    for step in (2, 4, 6, 8):
        stamps(step, 8, {})
    assert stamps.seconds_a_step() == 1.0


@pytest.mark.parametrize("side", ["simclr_steps", "badencoder_steps", "distillation_steps"])
@pytest.mark.parametrize("steps", [4, 7])
def test_a_side_trains_so_many_steps(tiny, side, steps, monkeypatch):
    seen = []
    monkeypatch.setattr(Stamps, "seconds_a_step", lambda self: seen.append(self.seen[-1][0]) or 1.0)
    assert getattr(library, side)(tiny)(steps) >= 1.0
    assert seen == [steps]


@pytest.mark.parametrize("side", ["views", "bare_steps", "matmuls", "head_epochs"])
def test_the_other_sides_give_seconds_a_step(tiny, side):
    assert 0 < getattr(library, side)(tiny)(2) < 10


def test_the_operations_of_a_step_are_those_of_its_convolutions(tiny):
    encoder = tiny.fresh()
    shapes = {}
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, out, name=name: shapes.__setitem__(name, (m, out.shape)))
    views = library.fixed_views(tiny)
    encoder(views)
    once = sum(2 * out.numel() * m.weight[0].numel() for m, out in shapes.values())
    stem = 2 * shapes["conv"][1].numel() * 27  # whose input wants no gradient
    assert len(views) == 2 * tiny.simclr_batch
    assert library.step_flops(tiny) == 3 * once - stem
