"""AFD against its formula written out, its guard, and both squeeze-and-excitation variants."""

import math

import pytest
import torch

from distill_lib.distillation.losses.afd import GUARD, Excitation, LearnedAFD, afd, afd_released


def softmax_attention(pooled):
    powers = [math.exp(value) for value in pooled]
    return [power / sum(powers) for power in powers]


def unit(channel):
    values = channel.flatten().tolist()
    length = math.sqrt(sum(value**2 for value in values) + GUARD**2)
    return [value / length for value in values]


def slow(student, teacher, stage, attention=softmax_attention):
    total = 0.0
    for one, two in zip(student.maps[stage], teacher.maps[stage], strict=True):
        rho = attention([channel.mean().item() for channel in two])
        for weight, learned, taught in zip(rho, one, two, strict=True):
            squares = [(a - b) ** 2 for a, b in zip(unit(learned), unit(taught), strict=True)]
            total += weight * sum(squares) / len(squares)
    return total / len(student.output)


def slow_excitation(block):
    squeeze, excite = block.squeeze.tolist(), block.excite.tolist()

    def attention(pooled):
        hidden = [max(0.0, sum(w * p for w, p in zip(row, pooled, strict=True))) for row in squeeze]
        logits = [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in excite]
        gates = [1 / (1 + math.exp(-logit)) for logit in logits]
        return [gate / sum(gates) for gate in gates]

    return attention


def channels(representation):
    return {stage: maps.shape[1] for stage, maps in representation.maps.items()}


def test_equals_the_formula_written_out(pair):
    assert afd(*pair).item() == pytest.approx(sum(slow(*pair, stage) for stage in pair[0].maps), rel=1e-9)
    assert afd(*pair, stages=("stage2",)).item() == pytest.approx(slow(*pair, "stage2"), rel=1e-9)


def test_means_and_sums_by_value(at_stage):
    """A channel looks left in the student, right in the teacher: (1 + 1) / 2 times its rho, four stages."""
    student, teacher = at_stage([[[[1e6, 0.0]]]]), at_stage([[[[0.0, 1e6]]]])
    assert afd(student, teacher).item() == pytest.approx(4)
    weak = [[0.0, 0.0]]  # a second channel that is zero in both: rho splits, it adds no error
    student, teacher = at_stage([[[[20.0, 0.0]], weak]]), at_stage([[[[0.0, 20.0]], weak]])
    rho = 1 / (1 + math.exp(-10))
    assert afd(student, teacher, stages=("stage1",)).item() == pytest.approx(rho, rel=1e-4)


def test_channels_the_teacher_attends_to_weigh_more(at_stage):
    """The same error costs more in the channel whose pooled activation is larger in the teacher."""
    strong, weak = [[4.0, 4.0]], [[1.0, 1.0]]
    teacher = at_stage([[strong, weak]])
    wrong_strong, wrong_weak = at_stage([[[[4.0, 0.0]], weak]]), at_stage([[strong, [[1.0, 0.0]]]])
    assert afd(wrong_strong, teacher).item() > 10 * afd(wrong_weak, teacher).item()


def test_zero_when_equal(small):
    assert afd(small[0], small[0]).item() == 0
    assert LearnedAFD(channels(small[0]))(small[0], small[0]).item() == 0


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_dead_student_map_has_a_bounded_gradient(at_stage, scale, size):
    """By the guard: no channel above 4 rho / (GUARD B H W), hence no image above that with rho = 1."""
    maps = (scale * torch.rand(2, 5, size, size)).requires_grad_()
    afd(at_stage(maps, "stage1"), at_stage(torch.rand(2, 5, size, size)), stages=("stage1",)).backward()
    assert maps.grad.isfinite().all()
    assert maps.grad.flatten(1).norm(dim=1).max() <= 4 / (GUARD * 2 * size * size)


def test_the_guard_leaves_ordinary_maps_alone():
    channel = torch.full((1, 1, 2, 2), 0.5)  # norm 1
    assert math.hypot(*unit(channel)) == pytest.approx(1, abs=0.006)


def test_excitation_equals_squeeze_and_excitation_written_out():
    block = Excitation(32, torch.Generator().manual_seed(0))
    assert block.squeeze.shape == (2, 32)
    pooled = torch.rand(3, 32, generator=torch.Generator().manual_seed(1))
    expected = [slow_excitation(block)(row) for row in pooled.tolist()]
    torch.testing.assert_close(block(pooled), torch.tensor(expected))
    torch.testing.assert_close(block(pooled).sum(1), torch.ones(3))


def test_learned_equals_its_formula_and_trains_its_attention(pair):
    module = LearnedAFD(channels(pair[0]), seed=5)
    attentions = {stage: slow_excitation(block) for stage, block in module.blocks.items()}
    expected = sum(slow(*pair, stage, attentions[stage]) for stage in pair[0].maps)
    value = module(*pair)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    assert all(block.excite_bias.grad.abs().sum() > 0 for block in module.blocks.values())


def test_learned_depends_on_its_seed_alone(small):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (LearnedAFD(channels(small[0]), seed)(*small).item() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(before, torch.get_rng_state())


def test_learned_can_look_away_from_hard_channels(at_stage):
    """Why it is no default: the student never moves, and its loss falls all the same."""
    generator = torch.Generator().manual_seed(0)
    taught = torch.rand(8, 16, 3, 3, generator=generator)
    learned = taught.clone()
    learned[:, 0] = torch.rand(8, 3, 3, generator=generator)  # one channel is wrong
    module = LearnedAFD({"stage1": 16}, seed=0)
    optimiser = torch.optim.Adam(module.parameters(), 0.05)
    values = []
    for _ in range(60):
        value = module(at_stage(learned), at_stage(taught))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.3 * values[0]


def test_released_draws_its_attention_from_the_generator(small):
    def value(seed):
        return afd_released(*small, generator=torch.Generator().manual_seed(seed)).item()

    assert value(3) == value(3)  # one seed an epoch keeps one attention through it
    assert value(3) != value(4)
    running = torch.Generator().manual_seed(3)
    assert afd_released(*small, generator=running).item() != afd_released(*small, generator=running).item()


def test_released_equals_its_formula(pair):
    generator = torch.Generator().manual_seed(9)
    blocks = [Excitation(count, generator) for count in channels(pair[0]).values()]
    stages = zip(pair[0].maps, blocks, strict=True)
    expected = sum(slow(*pair, stage, slow_excitation(block)) for stage, block in stages)
    found = afd_released(*pair, generator=torch.Generator().manual_seed(9))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_contract(obeys_contract, small):
    obeys_contract(afd)
    obeys_contract(LearnedAFD(channels(small[0])))
    obeys_contract(lambda *both: afd_released(*both, generator=torch.Generator().manual_seed(0)))
