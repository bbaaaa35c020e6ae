import torch

from distill_lib.tools.bench.datafree.measurements import DATA_FREE, WITHOUT_LOADER
from distill_lib.tools.bench.measurements import AGAINST_LOOPS
from distill_lib.tools.bench.pairs import Budget, Side, ratio_of, rounds
from distill_lib.tools.bench.setup import on_cpu, on_gpu
from distill_lib.vision.wide_resnet import WIDE_RESNETS

CPU = torch.device("cpu")


def test_each_contest_gives_a_ratio(tiny):
    for name, build in DATA_FREE.items():
        contest = build(tiny, 1)
        sides = [Side(run, least) for run, least in zip((contest.first, contest.second), contest.least, strict=True)]
        row = ratio_of(name, rounds(sides, Budget(0.001, 1)), contest.unit)
        assert 0 < row.ratio < 1000
        assert row.unit.startswith("seconds ")
        assert "papers' loop / ours" in row.unit


def test_the_rows_are_among_the_benchs():
    assert list(AGAINST_LOOPS)[-4:] == ["ood_step", "ood_step_fixed", "zskt_turn", "cmi_round"]
    assert set(WITHOUT_LOADER) <= set(AGAINST_LOOPS)


def test_a_cpu_has_the_small_networks_and_a_gpu_the_published():
    small, large = on_cpu(CPU, "bf16").data_free, on_gpu(CPU, "bf16").data_free
    assert (small.teacher, small.student) == (WIDE_RESNETS["wrn16_2_small"], WIDE_RESNETS["wrn16_1_small"])
    assert (large.teacher, large.student) == (WIDE_RESNETS["wrn16_2"], WIDE_RESNETS["wrn16_1"])
    made, learnt = zip(small.cmi_steps, large.cmi_steps, strict=True)
    assert [2 * each for each in made] == list(learnt)  # as published: 200 and 400
