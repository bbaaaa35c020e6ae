"""The Adversarial Sparse Teacher: its loss by hand, each switch of the ablation, pairing, resuming."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule
from distill_lib.undistillable.ast import ABLATION, KL_STRENGTH, ASTConfig, _Pairs, ablated, ast
from distill_lib.undistillable.divergences import epd, kl_of_target
from distill_lib.undistillable.guards import DefenceError
from distill_lib.undistillable.pgd import SPACES, PGDConfig, adversarial_set, frozen, pgd
from distill_lib.undistillable.stingy import top_logits
from distill_lib.vision.crop_flip import CropFlip

PGD = PGDConfig(0.3, 0.1, 3)
CONFIG = ASTConfig(Schedule(6, 8, "sgd", 0.01), alpha=0.3, pgd=PGD)


SWITCHED = {
    "ast": [], "kl": ["divergence"], "kl_matched": ["alpha", "divergence"], "dense": ["keep"], "clean": ["target"],
    "clamped": ["target"], "augmented": ["augment_targets"], "paired": ["paired"],
}  # fmt: skip


def first_rows(seed, batch=8):
    return torch.randperm(32, generator=torch.Generator().manual_seed(seed))[:batch]


@pytest.mark.parametrize(("divergence", "function"), [("epd", epd), ("kl", kl_of_target)])
@pytest.mark.parametrize("keep", [0, 2])
def test_the_first_step_by_hand(normal, fresh, data, plain, divergence, function, keep):
    """Paired, without augmentation: the clean pass in train mode, then the model's own answer in eval mode."""
    images, labels = data
    config = replace(CONFIG, divergence=divergence, keep=keep, paired=True, augmentation=plain)
    log = ast(fresh(), normal, images, labels, config, 5)
    rows, model = first_rows(5), fresh().train()
    kept = adversarial_set(normal, images, labels, PGD)
    behind = SPACES["normalised"].pixels(kept.values[rows].float() / 255)
    logits = model(images[rows].float() / 255)
    with torch.no_grad():
        target = model.eval()(behind)
    target = top_logits(target, keep) if keep else target
    assert log[0][divergence] == pytest.approx(0.3 * 36 * function(logits, target, 6.0).item(), rel=1e-3, abs=1e-6)
    assert log[0]["cross_entropy"] == pytest.approx(0.7 * cross_entropy(logits, labels[rows]).item(), rel=1e-4)


@pytest.mark.parametrize("name", ABLATION)
@pytest.mark.parametrize("source", ["kept", "fly"])
def test_every_row_of_the_ablation_trains(normal, fresh, data, name, source):
    before = copy.deepcopy(normal.state_dict())
    config = replace(ablated(CONFIG, name), source=source)
    model = fresh()
    log = ast(model, normal, *data, config, 0)
    assert set(log[-1]) == {"step", "lr", "cross_entropy", config.divergence}
    assert not model.training
    assert all(each.isfinite().all() for each in model.state_dict().values())
    assert all(torch.equal(value, before[key]) for key, value in normal.state_dict().items())


def test_each_row_switches_one_thing_alone(normal, fresh, data, same):
    models = {}
    for name in ABLATION:
        models[name] = fresh()
        ast(models[name], normal, *data, ablated(CONFIG, name), 0)
        changed = [key for key, value in vars(ablated(CONFIG, name)).items() if value != vars(CONFIG)[key]]
        assert changed == SWITCHED[name]
    pairs = [(one, two) for one in models for two in models if one < two]
    assert not any(same(models[one], models[two]) for one, two in pairs)


def test_alpha_0_is_cross_entropy_alone(normal, fresh, data):
    log = ast(fresh(), normal, *data, replace(CONFIG, alpha=0.0), 0)
    assert all(row["epd"] == 0 for row in log)
    assert log[0]["cross_entropy"] > 0.5


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("temperature", [6.0, 30.0])
def test_kl_pulls_harder_than_epd_by_the_factor_of_the_matched_row(scale, temperature):
    """At 2 of 10 logits and equal weight; the matched row's gradient is as strong as EPD's."""
    source = torch.Generator().manual_seed(0)
    logits, target = (scale * torch.randn(512, 10, generator=source) for _ in range(2))
    norms = []
    for divergence in (epd, kl_of_target):
        own = logits.clone().requires_grad_()
        divergence(own, top_logits(target, 2), temperature).backward()
        norms.append(own.grad.norm().item())
    assert norms[1] / norms[0] == pytest.approx(KL_STRENGTH, rel=0.05)
    assert ablated(CONFIG, "kl_matched").alpha * KL_STRENGTH == pytest.approx(CONFIG.alpha)


# ---- pairing --------------------------------------------------------------------------------------------------------


def views(normal, data, seed=0, steps=6, **changes):
    """Clean images and those behind their targets, for the first steps, and the rows of the former."""
    config = replace(CONFIG, **changes)
    pairs = _Pairs(normal, *data, config, seed, None)
    source = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(32, generator=source)[:8] for _ in range(steps)]
    return rows, [pairs(each, source) for each in rows]


def test_paired_targets_are_of_the_same_images_under_the_same_crop_and_flip(normal, data):
    """With the clean images behind the targets, both views must be one."""
    for clean, behind in views(normal, data, target="clean", paired=True)[1]:
        assert torch.equal(clean, behind)


def test_paired_adversarial_views_are_near_the_clean_ones(normal, data):
    near = PGDConfig(0.06, 0.02, 3, "pixel")
    for clean, behind in views(normal, data, pgd=near, paired=True)[1]:
        assert 0 < (clean - behind).abs().max() <= 0.06 + 1e-6


def test_unpaired_targets_come_in_a_fixed_order_whatever_the_batch(normal, data, plain):
    def order(seed):
        """Rows of the batches, and of those behind their targets."""
        rows, found = views(normal, data, seed=seed, target="clean", augmentation=plain)
        images = [(behind * 255).round().to(torch.uint8) for _, behind in found]
        behind = [[int((data[0] == image).flatten(1).all(1).nonzero()) for image in batch] for batch in images]
        return [batch.tolist() for batch in rows], behind

    rows, behind = order(0)
    assert sorted(row for batch in behind[:4] for row in batch) == list(range(32))  # an epoch of four batches
    assert behind[4:] == behind[:2]  # then the same batches again
    assert all(sorted(one) != sorted(two) for one, two in zip(behind, rows, strict=True))
    assert behind != order(1)[1]


def test_unpaired_targets_are_of_plain_images_unless_asked_for(normal, data):
    """As released: whatever is done to the clean images, nothing is done to those behind the targets."""

    def behind(**changes):
        return [each for _, each in views(normal, data, target="clean", steps=2, **changes)[1]]

    known = data[0].float() / 255
    assert all(bool((known == image).flatten(1).all(1).any()) for batch in behind() for image in batch)
    assert not all(bool((known == image).flatten(1).all(1).any()) for image in behind(augment_targets=True)[0])


def test_on_the_fly_the_views_themselves_are_attacked(normal, data):
    _, ((clean, behind), *_) = views(normal, data, source="fly", paired=True)
    rows = views(normal, data, source="fly", paired=True)[0][0]
    expected = SPACES["normalised"].pixels(pgd(frozen(normal), clean, data[1][rows], PGD))
    assert torch.allclose(behind, expected, atol=1e-5)


def test_a_set_can_be_shared(normal, fresh, data, same):
    kept, one, two = adversarial_set(normal, *data, PGD), fresh(), fresh()
    assert ast(one, normal, *data, CONFIG, 0) == ast(two, normal, *data, CONFIG, 0, adversarial=kept)
    assert same(one, two)


def test_padding_in_normalised_space_is_what_black_becomes(normal, data):
    kept = adversarial_set(normal, torch.zeros_like(data[0]), data[1], PGD)
    assert not kept.values.any()


# ---- guards, resuming, settings -------------------------------------------------------------------------------------


def test_a_training_that_diverges_is_explained(normal, fresh, data):
    with pytest.raises(DefenceError, match=r"adversarial sparse teacher diverged .*a smaller alpha"):
        ast(fresh(), normal, *data, replace(CONFIG, schedule=Schedule(6, 8, "sgd", 1e30)), 0)


@pytest.mark.parametrize("changes", [{}, {"paired": True}, {"source": "fly"}])
def test_a_killed_run_ends_bit_equal(normal, data, resumes, changes):
    """The place in the targets' order is part of the checkpoint."""
    resumes(lambda model, watch: ast(model, normal, *data, replace(CONFIG, **changes), 0, watch))


def test_the_published_settings_are_the_defaults():
    config = ASTConfig()
    assert (config.alpha, config.temperature, config.keep, config.divergence) == (0.05, 6.0, 2, "epd")
    assert (config.paired, config.target, config.source, config.pgd) == (False, "adversarial", "kept", PGDConfig())
    assert config.augmentation == CropFlip()
    assert config.augment_targets is False
    assert config.schedule.steps == 160 * 390


def test_wrong_values_are_named(normal, fresh, data):
    with pytest.raises(UsageError, match="unknown divergence of AST 'js'; allowed: epd, kl"):
        ASTConfig(divergence="js")
    with pytest.raises(UsageError, match="unknown target of AST 'other'; allowed: adversarial, clean"):
        ASTConfig(target="other")
    with pytest.raises(UsageError, match="alpha 2, temperature"):
        ASTConfig(alpha=2)
    with pytest.raises(UsageError, match="unknown row of AST's ablation 'all'"):
        ablated(CONFIG, "all")
    kept = adversarial_set(normal, *data, replace(PGD, space="pixel"))
    with pytest.raises(UsageError, match=r"in pixel space do not fit; allowed: .* in normalised space"):
        ast(fresh(), normal, *data, CONFIG, 0, adversarial=kept)
    with pytest.raises(UsageError, match="32 images and no labels"):
        ast(fresh(), normal, data[0], None, CONFIG, 0)
