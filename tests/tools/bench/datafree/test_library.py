import pytest

from distill_lib.tools.bench.datafree import library
from distill_lib.tools.bench.library import Stamps


@pytest.mark.parametrize("side", ["ood_steps", "fixed_ood_steps", "zskt_turns"])
@pytest.mark.parametrize("steps", [4, 7])
def test_a_side_trains_so_many_steps(tiny, side, steps, monkeypatch):
    seen = []
    monkeypatch.setattr(Stamps, "seconds_a_step", lambda self: seen.append(self.seen[-1][0]) or 1.0)
    assert getattr(library, side)(tiny)(steps) >= 1.0
    assert seen == [steps]


def test_whole_rounds_of_cmi_are_timed(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(Stamps, "seconds_a_step", lambda self: seen.extend(each for each, _ in self.seen) or 1.0)
    assert library.cmi_rounds(tiny)(2) == 3.0  # seconds a turn, one of the generator and two of the student
    assert seen == [3, 6, 9]  # the first round is warm-up


def test_the_settings_are_the_published_ones_but_for_sizes(tiny):
    assert library.ood_config(tiny).temperature == 8.0
    assert library.zskt_config(tiny).student_steps == 10
    config = library.cmi_config(tiny)
    assert (config.generator_steps, config.student_steps, config.temperature) == (1, 2, 20.0)
