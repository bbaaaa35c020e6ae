"""KD against Hinton's formula written out, and its conventions by value."""

import math

import pytest

from distill_lib.distillation.losses.kd import kd, kd_released


def softmax(logits, temperature):
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def divergence(teacher, student, temperature):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equals_the_formula_written_out(pair, temperature):
    student, teacher = (each.output.tolist() for each in pair)
    images = [divergence(t, s, temperature) for s, t in zip(student, teacher, strict=True)]
    expected = temperature**2 * sum(images) / len(images)
    assert kd(*pair, temperature=temperature).item() == pytest.approx(expected, rel=1e-9)


def test_released_is_over_the_channels_of_stage1_and_summed_over_positions(pair):
    student, teacher = (each.maps["stage1"].permute(0, 2, 3, 1).flatten(0, 2).tolist() for each in pair)
    positions = [divergence(t, s, 0.5) for s, t in zip(student, teacher, strict=True)]
    assert kd_released(*pair).item() == pytest.approx(0.25 * sum(positions) / len(pair[0].output), rel=1e-9)


def test_conventions_by_value(at_output):
    """Teacher (3/4, 1/4), student even, T = 1/2: KL(teacher || student), T^2 kept, mean over two images."""
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    teacher = at_output([[0.5 * math.log(3), 0.0], [0.0, 0.0]])
    student = at_output([[0.0, 0.0], [0.0, 0.0]])
    assert kd(student, teacher).item() == pytest.approx(0.25 * one / 2, rel=1e-9)
    assert kd(teacher, student).item() != pytest.approx(0.25 * one / 2, rel=1e-2)  # KL has a direction


def test_zero_when_equal_and_blind_to_a_common_shift(small, at_output):
    output = small[0].output
    assert kd(small[0], small[0]).item() == pytest.approx(0, abs=1e-12)
    assert kd(at_output(output + 3), at_output(output)).item() == pytest.approx(0, abs=1e-12)
    assert kd_released(small[0], small[0]).item() == pytest.approx(0, abs=1e-12)


def test_large_features_stay_finite(at_output):
    assert kd(at_output([[1e4, -1e4]]), at_output([[-1e4, 1e4]])).isfinite()


@pytest.mark.parametrize("loss", [kd, kd_released])
def test_contract(obeys_contract, loss):
    obeys_contract(loss)
