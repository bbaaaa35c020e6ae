"""MoCo v2: its queue, its loss in closed form, its steps by hand."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from distill_lib.errors import UsageError
from distill_lib.training import moco as module
from distill_lib.training.loop import Schedule
from distill_lib.training.moco import Head, MoCoConfig, Queue, info_nce, moco
from distill_lib.vision.augment import Augmentation


def config(steps=8, **others):
    return MoCoConfig(Schedule(steps, 8, lr=3e-3), **{"queue": 20, "projection": (16, 8)} | others)


# ---- the queue ------------------------------------------------------------------------------------------------------


def numbered(first, count):
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, 2)


def test_the_oldest_keys_leave_first():
    queue = Queue(5, 2)
    queue.push(numbered(0, 3))
    assert queue.keys[:3, 0].tolist() == [0, 1, 2]
    queue.push(numbered(3, 3))  # runs over the end
    assert queue.keys[:, 0].tolist() == [5, 1, 2, 3, 4]
    assert queue.start.item() == 1
    queue.push(numbered(6, 5))
    assert queue.keys[:, 0].tolist() == [10, 6, 7, 8, 9]


def test_a_queue_starts_with_random_keys_of_length_1_and_is_saved():
    queue = Queue(50, 8, seed=1)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(50))
    assert torch.equal(queue.keys, Queue(50, 8, seed=1).keys)
    assert not torch.equal(queue.keys, Queue(50, 8, seed=2).keys)
    assert set(queue.state_dict()) == {"keys", "start"}
    assert not list(queue.parameters())


# ---- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_the_loss_in_closed_form(temperature):
    axes = torch.eye(8, dtype=torch.float64)
    agreed = info_nce(axes[:3], axes[:3], axes[3:], temperature)
    assert agreed.item() == pytest.approx(math.log(1 + 5 * math.exp(-1 / temperature)), rel=1e-5)
    lost = info_nce(axes[:3], axes[3:6], axes[6:], temperature)
    assert lost.item() == pytest.approx(math.log(3))


def test_the_loss_query_by_query():
    source = torch.Generator().manual_seed(0)
    queries, keys, negatives = (
        normalize(torch.randn(count, 4, generator=source, dtype=torch.float64), dim=1) for count in (3, 3, 5)
    )
    losses = []
    for query, key in zip(queries, keys, strict=True):
        own = math.exp(query @ key / 0.2)
        losses.append(-math.log(own / (own + sum(math.exp(query @ each / 0.2) for each in negatives))))
    assert info_nce(queries, keys, negatives, 0.2).item() == pytest.approx(sum(losses) / 3)


# ---- the training ---------------------------------------------------------------------------------------------------


def test_two_steps_by_hand(images, small_encoder):
    """The key encoder follows before it makes its keys, which are the negatives of the step after."""
    encoder = small_encoder()
    log = moco(encoder, images, config(2, momentum=0.7), seed=5)
    query = nn.Sequential(small_encoder(), Head(32, 16, 8, seed=5)).train()
    key, queue, source = deepcopy(query), Queue(20, 8, 5).keys.clone(), torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(query.parameters(), 3e-3, weight_decay=1e-6, fused=True)
    order = torch.randperm(len(images), generator=source)
    for step, rows in enumerate(order[:16].split(8)):
        first, second = Augmentation()(torch.cat([images[rows], images[rows]]), source).chunk(2)
        with torch.no_grad():
            for own, led in zip(key.parameters(), query.parameters(), strict=True):
                own.copy_(0.7 * own + 0.3 * led)
            keys = normalize(key(second), dim=1)
        loss = info_nce(normalize(query(first), dim=1), keys, queue.clone(), 0.2)
        queue[8 * step : 8 * step + 8] = keys
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert log[step]["info_nce"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(encoder.conv.weight, query[0].conv.weight, atol=1e-6, rtol=1e-5)


def test_the_loss_falls_and_the_encoder_is_left_in_eval_mode(images, small_encoder):
    encoder = small_encoder()
    mild = Augmentation(crop_scale=(0.6, 1.0), jitter_probability=0.0, greyscale=0.0)
    log = moco(encoder, images, config(80, augmentation=mild, queue=16, momentum=0.9), seed=0)
    losses = [row["info_nce"] for row in log]
    assert sum(losses[-10:]) < sum(losses[5:15]) - 10 * 0.15
    assert not any(each.training for each in encoder.modules())
    assert all(each.requires_grad for each in encoder.parameters())


def test_the_key_encoder_and_the_queue_are_in_the_checkpoint(images, small_encoder, resumes, monkeypatch):
    held = []
    original = module.train
    monkeypatch.setattr(module, "train", lambda modules, *rest: held.append(modules) or original(modules, *rest))
    resumes(moco, config())
    names = {name.partition(".")[0] for name in held[0].state_dict()}
    assert names == {"query", "key", "queue"}
    assert not any(each.requires_grad for each in held[0]["key"].parameters())


def test_the_seed_decides_the_result(images, small_encoder):
    weights = []
    for seed in (1, 1, 2):
        encoder = small_encoder()
        moco(encoder, images, config(3), seed)
        weights.append(encoder.stage4[0].conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_head_has_no_batch_norm():
    assert [type(each).__name__ for each in Head(6, 5, 4)] == ["Linear", "ReLU", "Linear"]
    assert Head(6, 5, 4)(torch.rand(3, 6)).shape == (3, 4)


@pytest.mark.parametrize("others", [{"momentum": 1.1}, {"momentum": -0.1}, {"queue": 7}, {"temperature": 0.0}])
def test_impossible_settings_are_named(others):
    with pytest.raises(UsageError, match="are impossible; allowed: momentum 0 to 1, queue >= the batch of 8"):
        config(**others)
