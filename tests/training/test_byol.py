"""BYOL: its loss in closed form, its momentum, its steps by hand."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.training import byol as module
from distill_lib.training.byol import BYOLConfig, Clock, byol, regression
from distill_lib.training.loop import Schedule
from distill_lib.training.simclr import Projector
from distill_lib.vision.augment import Augmentation


def config(steps=8, **others):
    return BYOLConfig(Schedule(steps, 8, lr=3e-3), **{"projection": (16, 8)} | others)


# ---- the loss -------------------------------------------------------------------------------------------------------


def test_the_loss_in_closed_form():
    """0 where directions agree, 2 at right angles, 4 where they are opposed, whatever the lengths."""
    axes = torch.eye(4)
    assert regression(3 * axes, 5 * axes).item() == pytest.approx(0, abs=1e-6)
    assert regression(axes, axes.roll(1, 0)).item() == pytest.approx(2)
    assert regression(axes, -2 * axes).item() == pytest.approx(4)


def test_it_is_the_squared_distance_of_unit_vectors_and_blind_to_the_targets_gradients():
    source = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(5, 3, generator=source, requires_grad=True) for _ in range(2))
    units = [each.detach() / each.detach().norm(dim=1, keepdim=True) for each in (prediction, target)]
    loss = regression(prediction, target)
    assert loss.item() == pytest.approx((units[0] - units[1]).square().sum(1).mean().item(), rel=1e-5)
    loss.backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None


# ---- the momentum ---------------------------------------------------------------------------------------------------


def test_the_momentum_rises_to_1_by_a_cosine():
    clock, found = Clock(0.9, 10), []
    for _ in range(11):
        found.append(clock.momentum().item())
        clock.step += 1
    expected = [1 - 0.1 * (math.cos(math.pi * step / 10) + 1) / 2 for step in range(11)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert (found[0], found[5], found[10]) == pytest.approx((0.9, 0.95, 1.0))
    assert set(clock.state_dict()) == {"step"}


# ---- the training ---------------------------------------------------------------------------------------------------


def test_two_steps_by_hand(images, small_encoder):
    encoder = small_encoder()
    log = byol(encoder, images, config(2, momentum=0.7), seed=5)
    online = nn.Sequential(small_encoder(), Projector(32, 16, 8, seed=5)).train()
    predictor, target = Projector(8, 16, 8, seed=6).train(), deepcopy(online)
    parameters = [*online.parameters(), *predictor.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3, weight_decay=1e-6, fused=True)
    source = torch.Generator().manual_seed(5)
    order = torch.randperm(len(images), generator=source)
    for step, (rows, momentum) in enumerate(zip(order[:16].split(8), (0.7, 0.85), strict=True)):
        views = Augmentation()(torch.cat([images[rows], images[rows]]), source)
        with torch.no_grad():
            for own, led in zip(target.parameters(), online.parameters(), strict=True):
                own.copy_(momentum * own + (1 - momentum) * led)
            targets = target(views)
        predictions = predictor(online(views))
        cosines = torch.cosine_similarity(predictions, torch.cat([targets[8:], targets[:8]]))
        loss = 2 * (2 - 2 * cosines.mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert log[step]["byol"] == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(encoder.conv.weight, online[0].conv.weight, atol=1e-5, rtol=1e-4)


def test_the_loss_falls_and_the_encoder_is_left_in_eval_mode(images, small_encoder):
    encoder = small_encoder()
    mild = Augmentation(crop_scale=(0.6, 1.0), jitter_probability=0.0, greyscale=0.0)
    log = byol(encoder, images, config(60, augmentation=mild), seed=0)
    losses = [row["byol"] for row in log]
    assert sum(losses[-10:]) < 0.65 * sum(losses[:10])
    assert not any(each.training for each in encoder.modules())
    assert all(each.requires_grad for each in encoder.parameters())


def test_the_target_network_and_the_clock_are_in_the_checkpoint(images, small_encoder, resumes, monkeypatch):
    held = []
    original = module.train
    monkeypatch.setattr(module, "train", lambda modules, *rest: held.append(modules) or original(modules, *rest))
    resumes(byol, config(momentum=0.8))
    names = {name.partition(".")[0] for name in held[0].state_dict()}
    assert names == {"online", "predictor", "target", "clock"}
    assert not any(each.requires_grad for each in held[0]["target"].parameters())
    assert held[0]["clock"].step == 8


def test_the_seed_decides_the_result(images, small_encoder):
    weights = []
    for seed in (1, 1, 2):
        encoder = small_encoder()
        byol(encoder, images, config(3), seed)
        weights.append(encoder.stage4[0].conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_an_impossible_momentum_is_named(momentum):
    with pytest.raises(UsageError, match=f"a momentum of {momentum} is impossible; allowed: 0 to 1"):
        config(momentum=momentum)
