"""Re-estimated batch norm: the statistics in closed form, and that nothing else moves."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from distill_lib.defences.bn_reset import BNResetConfig, bn_reset
from distill_lib.errors import UsageError
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.features import to_unit

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def norms(encoder):
    return [each for each in encoder.modules() if isinstance(each, nn.BatchNorm2d)]


def stem(encoder, images):
    """What the first batch norm is given, (N, C, H, W)."""
    with torch.no_grad():
        return encoder.conv((to_unit(images) - encoder.mean) / encoder.std)


def test_one_batch_in_closed_form(encoder, share):
    """Mean and variance (n - 1) of the first layer's inputs over images and places."""
    assert bn_reset(encoder, share) == 1
    inputs = stem(encoder, share).transpose(0, 1).flatten(1)
    torch.testing.assert_close(encoder.bn.running_mean, inputs.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.bn.running_var, inputs.var(1), atol=1e-5, rtol=1e-4)


def test_after_one_batch_eval_mode_gives_what_train_mode_gave(encoder, share):
    """All layers at once. Train mode divides by n where the running variance has n - 1, which is put right here."""
    bn_reset(encoder, share)
    with torch.no_grad():
        batch = deepcopy(encoder).train()(to_unit(share))
        counts = {}
        for norm in norms(encoder):
            norm.register_forward_hook(lambda m, inputs, _: counts.update({m: inputs[0][:, 0].numel()}))
        encoder(to_unit(share))
        for norm, count in counts.items():
            norm.running_var *= (count - 1) / count
        torch.testing.assert_close(encoder(to_unit(share)), batch, atol=1e-4, rtol=1e-3)


def test_batches_are_averaged_plainly(encoder, share):
    """Not exponentially: each of the 2 x 3 batches counts a sixth; every image is in one of each pass."""
    config = BNResetConfig(batch=16, passes=2)
    assert bn_reset(encoder, share, config, seed=6) == 6
    source = torch.Generator().manual_seed(6)
    batches = [rows for _ in range(2) for rows in torch.randperm(40, generator=source).split([14, 13, 13])]
    inputs = [stem(encoder, share[rows]).transpose(0, 1).flatten(1) for rows in batches]
    mean = torch.stack([each.mean(1) for each in inputs]).mean(0)
    variance = torch.stack([each.var(1) for each in inputs]).mean(0)
    torch.testing.assert_close(encoder.bn.running_mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.bn.running_var, variance, atol=1e-5, rtol=1e-4)
    assert {int(each.num_batches_tracked) for each in norms(encoder)} == {6}


@pytest.mark.parametrize(("batch", "passes", "batches"), [(40, 1, 1), (39, 1, 2), (20, 3, 6), (2, 1, 20)])
def test_all_images_are_used(encoder, share, batch, passes, batches):
    seen = []
    encoder.conv.register_forward_hook(lambda module, inputs, _: seen.append(len(inputs[0])))
    assert bn_reset(encoder, share, BNResetConfig(batch=batch, passes=passes)) == batches
    assert sum(seen) == passes * len(share)
    assert max(seen) <= batch
    assert max(seen) - min(seen) <= 1
    assert bn_reset(encoder, share[:3], BNResetConfig(batch=2)) == 1  # not 2 and 1


def test_nothing_but_the_statistics_changes(any_encoder, share, same):
    before, momenta = deepcopy(any_encoder.state_dict()), [each.momentum for each in norms(any_encoder)]
    images = share.clone()
    bn_reset(any_encoder, share)
    after = any_encoder.state_dict()
    assert same(before, after, *STATISTICS)
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith(STATISTICS[:2]))
    assert [each.momentum for each in norms(any_encoder)] == momenta
    assert not any(each.training for each in any_encoder.modules())
    assert all(each.grad is None for each in any_encoder.parameters())
    assert torch.equal(images, share)


def test_views_are_averaged_over_where_asked(encoder, share):
    plain, viewed, again = deepcopy(encoder), deepcopy(encoder), deepcopy(encoder)
    bn_reset(plain, share)
    for each in (viewed, again):
        bn_reset(each, share, BNResetConfig(augmentation=Augmentation()), seed=1)
    assert torch.equal(viewed.bn.running_mean, again.bn.running_mean)
    assert not torch.allclose(viewed.bn.running_var, plain.bn.running_var, rtol=1e-3)


def test_what_the_layers_knew_before_has_no_part_in_it(encoder, share, same):
    other = deepcopy(encoder)
    for each in norms(other):
        each.running_mean.fill_(7.0)
        each.num_batches_tracked.fill_(100)
    bn_reset(encoder, share)
    bn_reset(other, share)
    assert same(encoder.state_dict(), other.state_dict())


def test_impossible_settings_are_named(encoder, share):
    with pytest.raises(UsageError, match="batch norm cannot be re-estimated on 1 images; allowed: 2 or more"):
        bn_reset(encoder, share[:1])
    with pytest.raises(UsageError, match="batch 1, passes 1 are impossible"):
        BNResetConfig(batch=1)
    with pytest.raises(UsageError, match="batch 256, passes 0 are impossible"):
        BNResetConfig(passes=0)
