"""Poisoned labels: how many images, which ones, with which label."""

import pytest
import torch
from torch import nn

from distill_lib.attacks.label_triggers import RECIPES, TRIGGERS
from distill_lib.attacks.poisoned_labels import PoisonedLabelsConfig, perturb, poison, surrogate_gradient
from distill_lib.errors import UsageError

COUNT, CLASSES = 60, 5


@pytest.fixture(scope="module")
def images():
    return torch.randint(40, 200, (COUNT, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def labels():
    return torch.arange(COUNT) % CLASSES


def uphill(images, labels):
    """A made-up surrogate whose loss grows with brightness in even classes and falls in odd ones."""
    return (1 - 2.0 * (labels % 2)).view(-1, 1, 1, 1).expand_as(images)


def changed(before, after):
    return (before != after).flatten(1).any(1).nonzero().squeeze(1)


@pytest.mark.parametrize("name", [name for name in RECIPES if not TRIGGERS[name].clean_label])
def test_a_tenth_is_triggered_and_relabelled(name, images, labels):
    poisoned = poison(images, labels, PoisonedLabelsConfig(name, target=2), seed=0)
    assert len(poisoned.rows) == COUNT // 10
    assert (labels[poisoned.rows] != 2).all()
    assert (poisoned.labels[poisoned.rows] == 2).all()
    assert torch.equal(changed(images, poisoned.images), poisoned.rows)
    assert torch.equal(poisoned.images[poisoned.rows], TRIGGERS[name](images[poisoned.rows]))
    kept = torch.ones(COUNT, dtype=torch.bool)
    kept[poisoned.rows] = False
    assert torch.equal(poisoned.labels[kept], labels[kept])
    assert torch.equal(labels, torch.arange(COUNT) % CLASSES)  # the set handed in stays clean


@pytest.mark.parametrize(("rate", "count"), [(0.1, 6), (0.05, 3), (0.9, 12)])
def test_clean_labels_are_kept_and_the_target_class_is_the_limit(images, labels, rate, count):
    poisoned = poison(images, labels, PoisonedLabelsConfig("sig", target=3, rate=rate), seed=0)
    assert len(poisoned.rows) == count
    assert (labels[poisoned.rows] == 3).all()
    assert torch.equal(poisoned.labels, labels)
    assert torch.equal(poisoned.images[poisoned.rows], TRIGGERS["sig"](images[poisoned.rows]))


def test_cl_perturbs_before_it_stamps(images, labels):
    config = PoisonedLabelsConfig("cl", target=1, epsilon=8, step=3, iterations=5)
    poisoned = poison(images, labels, config, seed=0, gradient=uphill)
    expected = TRIGGERS["cl"](images[poisoned.rows] - 8)  # downhill in brightness for an odd class, to the ball's edge
    assert torch.equal(poisoned.images[poisoned.rows], expected)
    assert torch.equal(poisoned.labels, labels)


def test_the_perturbation_stays_in_ball_and_range():
    dark = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    after = perturb(dark, torch.zeros(5, dtype=torch.int64), uphill, PoisonedLabelsConfig("cl", epsilon=20, step=7))
    assert torch.equal(after.int(), (dark.int() + 20).clamp_max(255))


def test_a_surrogates_gradient_is_that_of_its_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 1])
    got = surrogate_gradient(model)(images, labels)
    chances = model(images).softmax(1) - nn.functional.one_hot(labels, 3)
    assert torch.allclose(got.flatten(1), chances @ model[1].weight, atol=1e-6)
    assert model[1].weight.grad is None


def test_the_seed_decides(images, labels):
    first, again, other = (poison(images, labels, PoisonedLabelsConfig(), seed) for seed in (1, 1, 2))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_cl_needs_a_gradient(images, labels):
    with pytest.raises(UsageError, match="'cl' perturbs its images: a surrogate's gradient is needed"):
        poison(images, labels, PoisonedLabelsConfig("cl"), seed=0)


@pytest.mark.parametrize("rate", [0, 1.5, float("nan")])
def test_an_impossible_rate_is_named(rate):
    with pytest.raises(UsageError, match=f"a poison rate of {rate} is not allowed"):
        PoisonedLabelsConfig(rate=rate)


def test_other_wrong_values(images, labels):
    with pytest.raises(UsageError, match="target class 9 has no image; allowed: 0, 1, 2, 3, 4"):
        poison(images, labels, PoisonedLabelsConfig(target=9), seed=0)
    with pytest.raises(UsageError, match="asks for 54 images outside class 0, which are 48"):
        poison(images, labels, PoisonedLabelsConfig(rate=0.9), seed=0)
    with pytest.raises(UsageError, match="unknown trigger 'x'"):
        PoisonedLabelsConfig("x")
    with pytest.raises(UsageError, match="step 9, iterations 20 are impossible"):
        PoisonedLabelsConfig("cl", epsilon=8, step=9)
