"""Fine-pruning: which channels go, that they are gone, and that fine-tuning does not bring them back."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from distill_lib.defences.fine_pruning import (
    FinePruningConfig,
    fine_pruning,
    kept_pruned,
    mean_activity,
    prune,
    removals,
)
from distill_lib.defences.finetune import finetune
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch
from distill_lib.vision.features import extract, to_unit


def expected_channels(encoder, share, count):
    """Of the last stage's outputs; the encoder's output is their mean over places."""
    return extract(encoder, share).mean(0).topk(count, largest=False).indices.sort().values


def test_activity_is_the_mean_over_images_and_places(encoder, share):
    torch.testing.assert_close(
        mean_activity(encoder, share, batch=7), extract(encoder, share).double().mean(0), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("pruned", [0.1, 0.5])
def test_the_channels_dormant_on_clean_data_are_gone_after_the_fine_tuning(any_encoder, share, settings, pruned):
    count = int(pruned * any_encoder.dimension)
    expected = expected_channels(any_encoder, share, count)
    _, channels = fine_pruning(any_encoder, share, FinePruningConfig(settings, pruned), seed=0)
    assert torch.equal(channels, expected)
    features = extract(any_encoder, share)
    assert (features[:, channels] == 0).all()
    with torch.no_grad():
        assert (any_encoder.train()(to_unit(share))[:, channels] == 0).all()
    for norm in removals(any_encoder):
        assert (norm.weight[channels] == 0).all()
        assert (norm.bias[channels] == 0).all()
        assert len(norm.weight.nonzero()) == len(norm.weight) - count


def test_pruning_alone_touches_the_planned_channels_only(encoder, share, same):
    before, features = deepcopy(encoder.state_dict()), extract(encoder, share)
    channels = torch.tensor([3, 8])
    prune(encoder, channels)
    kept = [each for each in range(encoder.dimension) if each not in (3, 8)]
    assert torch.equal(extract(encoder, share)[:, kept], features[:, kept])
    touched = [name for name in before if not torch.equal(before[name], encoder.state_dict()[name])]
    assert touched == [f"stage4.0.{norm}.{what}" for norm in ("bn2", "shortcut.1") for what in ("weight", "bias")]


def test_the_rest_is_fine_tuned(encoder, share, settings):
    before = encoder.stage4[0].bn2.weight.detach().clone()
    log, channels = fine_pruning(encoder, share, FinePruningConfig(settings), seed=0)
    kept = torch.ones(encoder.dimension, dtype=torch.bool).index_fill(0, channels, False)
    assert (encoder.stage4[0].bn2.weight[kept] != before[kept]).all()
    assert log[-1]["step"] == settings.schedule.steps
    assert not encoder.training


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_the_mask_holds_even_where_gradients_would_flow(encoder, share, optimiser):
    """A bias at 0.5 behind the ReLU has gradients; the weight at 0 stays, momentum and weight decay included."""
    norm, channels = encoder.stage4[0].bn2, torch.tensor([1, 4])
    prune(encoder, channels)
    encoder.stage4[0].shortcut[1].bias.data[channels] = 0.5
    steps = {"adam": torch.optim.Adam, "sgd": lambda p, **o: torch.optim.SGD(p, momentum=0.9, **o)}
    chosen = steps[optimiser](encoder.parameters(), lr=0.1, weight_decay=0.1)
    free = deepcopy(encoder)
    with kept_pruned(encoder, channels):
        for _ in range(3):
            chosen.zero_grad()
            encoder(to_unit(share)).square().sum().backward()
            chosen.step()
    assert (norm.weight[channels] == 0).all()
    assert (norm.bias[channels] == 0).all()
    free(to_unit(share)).square().sum().backward()
    assert (free.stage4[0].bn2.weight.grad[channels] != 0).all()  # unmasked, they would come back


def test_the_mask_is_gone_afterwards(encoder, share, settings):
    _, channels = fine_pruning(encoder, share, FinePruningConfig(settings), seed=0)
    encoder.stage4[0].shortcut[1].bias.data[channels] = 0.5
    encoder(to_unit(share)).square().sum().backward()
    assert (encoder.stage4[0].bn2.bias.grad[channels] != 0).all()


def test_it_is_more_than_fine_tuning(encoder, share, settings, same):
    tuned = deepcopy(encoder)
    finetune(tuned, share, settings, 0)
    fine_pruning(encoder, share, FinePruningConfig(settings), seed=0)
    assert not same(tuned.state_dict(), encoder.state_dict())


def test_resumed_equals_uninterrupted_bit_for_bit(encoder, share, settings, tmp_path, same):
    def stop(step, *_):
        if step == 4:
            raise KeyboardInterrupt

    path, config = tmp_path / "c.pt", FinePruningConfig(settings, 0.3)
    killed, resumed = deepcopy(encoder), deepcopy(encoder)
    log, channels = fine_pruning(encoder, share, config, 3)
    with pytest.raises(KeyboardInterrupt):
        fine_pruning(killed, share, config, 3, Watch(stop, path, every_s=-1.0))
    again, removed = fine_pruning(resumed, share, config, 3, Watch(checkpoint=path, every_s=-1.0))
    assert again == log
    assert torch.equal(channels, removed)
    assert same(encoder.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("pruned", [0, 1, -0.2, 3])
def test_an_impossible_share_is_named(settings, pruned):
    with pytest.raises(UsageError, match=f"a pruned share of {pruned} is not allowed; it must be above 0 and below 1"):
        FinePruningConfig(settings, pruned)


def test_a_share_under_one_channel_is_named(encoder, share, settings):
    config = FinePruningConfig(replace(settings, schedule=Schedule(0)), 0.01)
    with pytest.raises(UsageError, match=r"a pruned share of 0\.01 is no channel of 32; allowed: 0\.0312 or more"):
        fine_pruning(encoder, share, config, 0)
