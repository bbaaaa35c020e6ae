"""The Shuffling Vaccine: what is shuffled, what is suspicious, when it is accepted."""

import math

import pytest
import torch
from torch import nn

from distill_lib.datafree.divergence import divergences
from distill_lib.datafree.vaccine import OFF, Vaccine, VaccineConfig, auc, outlier_share, shuffled, suspicious
from distill_lib.errors import UsageError
from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet


@pytest.fixture
def vaccine(teacher):
    """A vaccine that is on."""
    made = Vaccine(teacher, VaccineConfig(acceptance=False), seed=0)
    made.decide(lambda: pytest.fail("no images are needed without the test"))
    return made


def convolutions(model):
    return [each for each in model.modules() if isinstance(each, nn.Conv2d)]


# ---- the shuffled teacher -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5])
def test_the_last_convolutions_have_their_input_channels_permuted(count):
    teacher = build_wide_resnet(WideResNetConfig(16, 2, base=4), 0)
    twin = shuffled(teacher, count, torch.Generator().manual_seed(0))
    own, others = convolutions(teacher.block3), convolutions(twin.block3)
    for index, (before, after) in enumerate(zip(own, others, strict=True)):
        columns = [after.weight[:, channel] for channel in range(after.in_channels)]
        order = [next(i for i in range(len(columns)) if torch.equal(before.weight[:, i], each)) for each in columns]
        assert sorted(order) == list(range(before.in_channels))
        assert (order != sorted(order)) == (index >= len(own) - count)
    assert torch.equal(twin.head.weight, teacher.head.weight)
    assert not any(each.requires_grad for each in twin.parameters())


def test_its_logits_are_the_mean_of_three_different_copies(teacher, vaccine, unit_images):
    maps = teacher.trunk(unit_images)
    source = torch.Generator().manual_seed(0)
    copies = [shuffled(teacher, 5, source).tail(maps) for _ in range(3)]
    assert torch.allclose(vaccine.logits(maps), sum(copies) / 3, atol=1e-6)
    assert not torch.allclose(copies[0], copies[1])


def test_its_state_is_one_number_and_the_copies_come_again(teacher, vaccine, unit_images):
    assert {name: value.numel() for name, value in vaccine.state_dict().items()} == {"accepted": 1}
    again = Vaccine(teacher, VaccineConfig(), seed=0)
    again.load_state_dict(vaccine.state_dict())
    maps = teacher.trunk(unit_images)
    assert torch.equal(again.logits(maps), vaccine.logits(maps))
    other = Vaccine(teacher, VaccineConfig(acceptance=False), seed=1)
    other.decide(lambda: None)
    assert not torch.equal(other.logits(maps), vaccine.logits(maps))


# ---- the score ------------------------------------------------------------------------------------------------------


def test_same_class_is_suspicious():
    one, two = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 6.0]]), torch.tensor([[1.0, 0.0], [4.0, 2.0], [0.0, 9.0]])
    assert suspicious(one, two).tolist() == [True, False, True]


@pytest.mark.parametrize("direction", ["teacher_first", "vaccine_first"])
def test_the_score_is_the_log_divergence(teacher, unit_images, direction):
    vaccine = Vaccine(teacher, VaccineConfig(acceptance=False, direction=direction), seed=0)
    vaccine.decide(lambda: None)
    maps = teacher.trunk(unit_images)
    pair = [teacher.tail(maps), vaccine.logits(maps)]
    expected = divergences(*(pair if direction == "teacher_first" else pair[::-1])).log10()
    assert torch.allclose(vaccine.scores(unit_images), expected, atol=1e-5)


def test_auc_counts_pairs():
    clean, triggered = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([0.0, 2.0, 4.0])
    wins = sum((t < c) + 0.5 * (t == c) for t in triggered.tolist() for c in clean.tolist())
    assert auc(clean, triggered) == pytest.approx(wins / 12)
    assert auc(clean, clean) == pytest.approx(0.5)
    assert auc(clean, clean - 10) == 1.0
    assert auc(clean, triggered, "high") == pytest.approx(1 - wins / 12)  # the released sign


# ---- where it joins a method ----------------------------------------------------------------------------------------


def test_the_generators_term_by_hand(teacher, vaccine, unit_images):
    images = unit_images.clone().requires_grad_()
    maps = teacher.trunk(images)
    logits = teacher.tail(maps)
    term = vaccine.generator_term(maps, logits, "batch_and_classes")
    other = vaccine.logits(maps)
    picked = [i for i in range(len(images)) if int(other[i].argmax()) == int(logits[i].argmax())]
    assert 0 < len(picked) < len(images)
    own, others = logits.detach().log_softmax(1), other.detach().log_softmax(1)
    values = [float((own[i].exp() * (own[i] - others[i])).sum()) for i in picked]
    assert term.item() == pytest.approx(-0.1 * sum(values) / len(values) / 4, rel=1e-4)
    (slope,) = torch.autograd.grad(term, images)
    touched = slope.flatten(1).any(1).nonzero().squeeze(1).tolist()
    assert touched == picked


def test_weights_of_suspicious_images_by_hand(teacher, unit_images):
    values = torch.arange(1.0, 17.0)
    maps = teacher.trunk(unit_images)
    logits = teacher.tail(maps)
    got = {}
    for variant in ("paper", "released"):
        vaccine = Vaccine(teacher, VaccineConfig(acceptance=False, variant=variant, alpha=4.0), seed=0)
        vaccine.decide(lambda: None)
        got[variant] = vaccine.weigh(values, vaccine.suspects(maps, logits)).item()
    mask = suspicious(vaccine.logits(maps), logits)
    kept, marked = values[~mask].tolist(), values[mask].tolist()
    assert got["paper"] == pytest.approx((sum(kept) + sum(marked) / 4) / 16)
    assert got["released"] == pytest.approx(sum(kept) / len(kept) - 0.1 * sum(marked) / len(marked))


# ---- acceptance -----------------------------------------------------------------------------------------------------


def test_outliers_by_hand():
    bulk = torch.tensor([1.0, -1.0]).repeat(48)
    scores = torch.cat([bulk, torch.full((4,), -30.0)])
    mean = -120 / 100
    deviation = math.sqrt((96 + 4 * 900) / 100 - mean**2)
    assert mean - 3 * deviation > -30
    assert outlier_share(scores) == pytest.approx(0.04)
    assert outlier_share(bulk) == 0


@pytest.mark.parametrize(("accepted_at", "expected"), [(0, 0), (3, 3), (99, OFF)])
def test_it_tries_until_one_is_accepted_and_eight_times_at_most(teacher, unit_images, accepted_at, expected):
    vaccine = Vaccine(teacher, VaccineConfig(), seed=0)
    seen = []

    def accepts(scores):
        seen.append(scores)
        return len(seen) > accepted_at

    vaccine.accepts = accepts
    assert not vaccine.decided
    vaccine.decide(lambda: unit_images)
    assert int(vaccine.accepted) == expected
    assert len(seen) == (8 if expected == OFF else accepted_at + 1)
    assert (vaccine.decided, vaccine.active) == (True, expected != OFF)
    if len(seen) > 1:
        assert not torch.equal(seen[0], seen[1])  # another shuffling


def test_more_than_two_percent_of_outliers_are_needed(teacher):
    vaccine = Vaccine(teacher, VaccineConfig(), seed=0)
    bulk = torch.tensor([1.0, -1.0]).repeat(490)
    assert vaccine.accepts(torch.cat([bulk, torch.full((21,), -30.0)]))
    assert not vaccine.accepts(torch.cat([bulk, torch.full((20,), -30.0)]))


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_wrong_values_are_named(teacher, unit_images):
    with pytest.raises(UsageError, match="unknown variant of the vaccine 'slide'; allowed: paper, released"):
        VaccineConfig(variant="slide")
    with pytest.raises(UsageError, match="unknown direction of the vaccine's score 'up'"):
        VaccineConfig(direction="up")
    with pytest.raises(UsageError, match="unknown sign of the vaccine's score 'mid'; allowed: low, high"):
        auc(torch.zeros(2), torch.zeros(2), "mid")
    with pytest.raises(UsageError, match="copies 0, convolutions 5"):
        VaccineConfig(copies=0)
    with pytest.raises(UsageError, match="alpha 0, weight"):
        VaccineConfig(alpha=0)
    with pytest.raises(UsageError, match="no vaccine was accepted"):
        Vaccine(teacher, VaccineConfig(), 0).logits(teacher.trunk(unit_images))
