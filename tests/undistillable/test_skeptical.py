"""The skeptical student: where its heads sit, its terms by value, what the teacher reaches."""

import math

import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.undistillable.skeptical import SkepticalConfig, extra_heads, skeptical_terms, stages
from distill_lib.vision.classifiers import CLASSIFIERS, ClassifierConfig, build_classifier
from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet


def test_the_stages_of_networks_of_three_and_four(fresh):
    assert stages(fresh(), SkepticalConfig()) == ("stage1", "stage2")
    four = build_classifier(ClassifierConfig("resnet", 10, 16), 0)
    assert stages(four, SkepticalConfig()) == ("stage2", "stage3")
    assert stages(build_wide_resnet(WideResNetConfig(10), 0), SkepticalConfig()) == ("block1", "block2")
    assert stages(four, SkepticalConfig(shallow="stage1")) == ("stage1", "stage3")
    with pytest.raises(UsageError, match="needs three stages"):
        stages(nn.Linear(1, 1), SkepticalConfig())


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name.endswith("_small")])
def test_heads_fit_every_small_network_and_come_from_the_seed(name, data):
    student = build_classifier(CLASSIFIERS[name], 0)
    state = torch.get_rng_state()
    heads, again, other = (extra_heads(student, data[0], SkepticalConfig(), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads["deep"].conv.weight, again["deep"].conv.weight)
    assert not torch.equal(heads["deep"].conv.weight, other["deep"].conv.weight)
    assert heads["shallow"].head.out_features == 10


def test_the_terms_by_value():
    """Teacher 3/4 and 1/4, shallow head 1/2 and 1/2, deep head 1/4 and 3/4, final head 1/2 and 1/2 at T = 2."""
    log3 = 2 * math.log(3.0)
    taught, deep, even = (torch.tensor([each]) for each in ([log3, 0.0], [0.0, log3], [0.0, 0.0]))
    found = skeptical_terms(even, even, deep, taught, torch.tensor([0]), alpha=0.9, temperature=2.0, part=0.3)
    from_teacher = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = {
        "kl": 0.9 * 4 * from_teacher,
        "shallow_cross_entropy": 0.1 * math.log(2),
        "self": 0.3 * (0.5 * math.log(2.0) + 0.5 * math.log(2 / 3)),  # no factor T^2, as released
        "deep_cross_entropy": 0.7 * math.log(10),  # at T = 1 the chances are 1/10 and 9/10
        "cross_entropy": math.log(2),
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_the_teacher_reaches_the_shallow_head_alone():
    final, shallow, deep = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    taught, truth = torch.randn(3, 4), torch.tensor([0, 1, 2])
    terms = skeptical_terms(final, shallow, deep, taught, truth, 0.9, 4.0, 0.3)
    by_teacher = torch.autograd.grad(terms["kl"], (final, shallow, deep), allow_unused=True)
    assert [each is not None for each in by_teacher] == [False, True, False]
    own = torch.autograd.grad(terms["self"], (final, shallow, deep), allow_unused=True)
    assert [each is not None for each in own] == [True, False, True]


def test_impossible_settings_are_named():
    with pytest.raises(UsageError, match="width 0, self_weight"):
        SkepticalConfig(width=0)
    with pytest.raises(UsageError, match="self_weight 2"):
        SkepticalConfig(self_weight=2)
