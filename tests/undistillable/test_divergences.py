"""EPD against a transcription and its closed form, KL with logits at minus infinity."""

import math

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from distill_lib.undistillable.divergences import DIVERGENCES, epd, kl, kl_of_target
from distill_lib.undistillable.stingy import top_logits

INF = math.inf


def random_logits(count=5, classes=7, seed=0):
    source = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(count, classes, generator=source, dtype=torch.float64) for _ in range(2)]


def epd_by_hand(logits, target, temperature):
    """The formula, number by number."""
    total = 0.0
    for z, s in zip(logits.tolist(), target.tolist(), strict=True):
        p, q = ([math.exp(each / temperature) for each in row] for row in (z, s))
        p, q = ([each / sum(row) for each in row] for row in (p, q))
        total += sum(math.exp(b) * (b - a) for a, b in zip(p, q, strict=True))
    return total / len(logits)


@pytest.mark.parametrize("temperature", [1.0, 6.0, 30.0])
@pytest.mark.parametrize("keep", [1, 2, 7])
def test_epd_equals_its_transcription(temperature, keep):
    logits, target = random_logits()
    target = top_logits(target, keep)
    value = epd(logits, target, temperature)
    assert value.item() == pytest.approx(epd_by_hand(logits, target, temperature), rel=1e-12)
    # What the release calls: a KL whose inputs, chances, are taken for logarithms of chances.
    p, q = softmax(logits / temperature, 1), softmax(target / temperature, 1)
    assert value.item() == pytest.approx(kl_div(p, q, reduction="batchmean", log_target=True).item(), rel=1e-12)


@pytest.mark.parametrize("keep", [2, 7])
def test_epds_gradient_in_closed_form(keep):
    logits, target = random_logits()
    target, temperature = top_logits(target, keep), 6.0
    logits.requires_grad_()
    epd(logits, target, temperature).backward()
    p, q = softmax(logits.detach() / temperature, 1), softmax(target / temperature, 1)
    expected = -p * (q.exp() - (p * q.exp()).sum(1, keepdim=True)) / (temperature * len(p))
    assert torch.allclose(logits.grad, expected, atol=1e-14)


def test_epd_is_least_at_one_hot_and_not_at_the_target():
    target = torch.tensor([[2.0, 1.0, 0.0]])
    assert epd(target, target).item() == pytest.approx(0, abs=1e-7)
    assert epd(torch.tensor([[50.0, 0.0, 0.0]]), target).item() < -0.1


def test_epd_of_balanced_strangers_teaches_nothing():
    """Targets that have nothing to do with the image, each class alike: the gradients cancel."""
    logits = random_logits(1)[0].requires_grad_()
    target = top_logits(random_logits(1, seed=3)[0], 2)
    strangers = torch.cat([target.roll(shift, 1) for shift in range(7)])
    epd(logits.expand(7, -1), strangers, 6.0).backward()
    assert logits.grad.abs().max() < 1e-15
    kl_of_target(logits.expand(7, -1), strangers, 6.0).backward()
    assert logits.grad.abs().max() > 1e-3  # KL pulls towards the uniform answer


@pytest.mark.parametrize("name", DIVERGENCES)
def test_targets_carry_no_gradient_and_may_be_infinite(name):
    logits, target = (each.requires_grad_() for each in random_logits())
    value = DIVERGENCES[name](logits, top_logits(target, 2), 4.0)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert target.grad is None


def test_kl_by_value_and_direction():
    """Chances 3/4, 1/4 against 1/2, 1/2."""
    first, second = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), torch.zeros(2, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    backward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl(first, second).item() == pytest.approx(forward / 2)
    assert kl(second, first).item() == pytest.approx(backward / 2)
    assert kl(2 * first, second, 2.0).item() == pytest.approx(forward / 2)  # no factor T^2
    assert kl_of_target(second, first).item() == pytest.approx(forward / 2)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_equals_torchs_in_value_and_both_gradients(temperature):
    ours, theirs = ([each.requires_grad_() for each in random_logits()] for _ in range(2))
    value = kl(*ours, temperature)
    one, two = (log_softmax(each / temperature, 1) for each in theirs)
    expected = kl_div(two, one, reduction="batchmean", log_target=True)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value.backward()
    expected.backward()
    for each, other in zip(ours, theirs, strict=True):
        assert torch.allclose(each.grad, other.grad, atol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_through_logits_at_minus_infinity(temperature):
    """Equal, in value and both gradients, to the sum over the classes that are left."""
    whole, second = (each.requires_grad_() for each in random_logits())
    first = torch.tensor([[0.0, -INF, -INF, 0.0, -INF, -INF, 0.0]]) + whole
    value = kl(first, second, temperature)
    value.backward()
    left = [0, 3, 6]
    p = softmax(whole.detach()[:, left] / temperature, 1)
    logs = log_softmax(second.detach() / temperature, 1)
    terms = p.log() - logs[:, left]
    assert value.item() == pytest.approx((p * terms).sum(1).mean().item(), rel=1e-12)
    by_first = torch.zeros_like(second)
    by_first[:, left] = p * (terms - (p * terms).sum(1, keepdim=True)) / (temperature * len(p))
    assert torch.allclose(whole.grad, by_first, atol=1e-14)
    by_second = logs.exp() / (temperature * len(p))
    by_second[:, left] -= p / (temperature * len(p))
    assert torch.allclose(second.grad, by_second, atol=1e-14)
