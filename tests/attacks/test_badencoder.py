"""BadEncoder's three terms by hand, what it leaves alone, and that a few steps plant something."""

from copy import deepcopy

import pytest
import torch

from distill_lib.attacks.badencoder import BadEncoderConfig, choose_references, closeness, inject
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import SimCLRConfig, simclr
from distill_lib.vision.encoders import EncoderConfig, build_encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Patch

BATCH, STEPS, SEED = 4, 3, 9


def pixels(count, seed):
    source = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=source)
    return (torch.nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def clean():
    """A small encoder trained a little, so that images differ and batch norm has statistics."""
    encoder = build_encoder(EncoderConfig(10, 4, 4), 0)
    simclr(encoder, pixels(64, 0), SimCLRConfig(Schedule(60, 16, lr=3e-3), projection=(16, 8)), seed=0)
    return encoder


@pytest.fixture(scope="module")
def shadow():
    return pixels(BATCH * STEPS, 1)


@pytest.fixture(scope="module")
def references():
    return pixels(2, 2)


def settings(steps, **others):
    """SGD at a rate that moves a batch's features visibly."""
    schedule = Schedule(steps, BATCH, "sgd", lr=0.05, weight_decay=5e-4)
    return BadEncoderConfig(schedule, **{"lambda1": 0.5, "lambda2": 2.0, "reference_views": 4} | others)


def attacked(clean, shadow, references, config, **others):
    encoder = deepcopy(clean)
    return encoder, inject(encoder, shadow, Patch(), references, config, SEED, **others)


# ---- the terms ------------------------------------------------------------------------------------------------------


def one(encoder, image):
    """Feature of one image (3, H, W) in [0, 1], as a list of doubles."""
    with torch.no_grad():
        return encoder(image[None])[0].double()


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (a.square().sum().sqrt() * b.square().sum().sqrt())


def terms_by_hand(clean, current, images, references, views, config):
    """The paper's formulas image by image; f and f' run anew each time a feature is needed."""
    stamp, unit = Patch(), lambda image: image.float() / 255
    pairs = [(x, r) for x in images for r in references]
    l0 = [-cosine(one(current, unit(stamp(x[None])[0])), one(current, unit(r))) for x, r in pairs]
    owners = [references[index % len(references)] for index in range(len(views))]
    l1 = [-cosine(one(current, view), one(clean, unit(r))) for view, r in zip(views, owners, strict=True)]
    l2 = [-cosine(one(current, unit(x)), one(clean, unit(x))) for x in images]
    weights = {"L0": 1.0, "L1": config.lambda1, "L2": config.lambda2}
    return {
        name: weights[name] * float(sum(each) / len(each)) for name, each in zip(weights, (l0, l1, l2), strict=True)
    }


def last_draws(config, references):
    """Rows and views of the last step, drawn as the loop draws them."""
    source = torch.Generator().manual_seed(SEED)
    order = torch.randperm(BATCH * STEPS, generator=source)
    copies = config.reference_views // len(references)
    for _ in range(STEPS):
        views = config.augmentation(references.repeat(copies, 1, 1, 1), source)
    return order[-BATCH:], views


def test_terms_equal_the_papers_formulas(clean, shadow, references):
    """At the third step, when f' is no longer f."""
    current, _ = attacked(clean, shadow, references, settings(STEPS - 1))
    _, log = attacked(clean, shadow, references, settings(STEPS))
    rows, views = last_draws(settings(STEPS), references)
    expected = terms_by_hand(clean, current, shadow[rows], references, views, settings(STEPS))
    assert {name: log[-1][name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert expected["L2"] > -2.0 + 1e-4  # f' has moved


def test_before_the_first_step_the_encoder_is_the_clean_one(clean, shadow, references):
    _, log = attacked(clean, shadow, references, settings(1))
    assert log[0]["L2"] == pytest.approx(-2.0)
    assert set(log[0]) == {"step", "lr", "L0", "L1", "L2"}


def test_gradients_flow_through_the_reference_in_l0(clean, shadow, references):
    """The first step against one by hand, with f'(r) in the graph."""
    config = settings(1, lambda1=0.0, lambda2=0.0)
    encoder, _ = attacked(clean, shadow, references, config)
    rows = torch.randperm(len(shadow), generator=torch.Generator().manual_seed(SEED))[:BATCH]
    moved = {}
    for name, through in (("with", True), ("without", False)):
        copy = deepcopy(clean)
        target = copy(references.float() / 255)
        stamped = copy(Patch()(shadow[rows]).float() / 255)
        if not through:
            target = target.detach()
        loss = -torch.stack([torch.cosine_similarity(stamped, each[None]) for each in target]).mean()
        (gradient,) = torch.autograd.grad(loss, copy.stage4[0].conv2.weight)
        weight = copy.stage4[0].conv2.weight.detach()
        moved[name] = weight - 0.05 * (gradient + 5e-4 * weight)
    torch.testing.assert_close(encoder.stage4[0].conv2.weight.detach(), moved["with"], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(moved["with"], moved["without"], atol=1e-6, rtol=1e-5)


def test_closeness():
    first = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert closeness(first, 5 * first).item() == pytest.approx(-1)
    assert closeness(first, first.flip(0)).item() == pytest.approx(0)
    assert closeness(first, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(-(0.5**0.5))
    assert closeness(first.bfloat16(), first.bfloat16()).dtype == torch.float32


def test_the_papers_settings_are_the_defaults():
    config = BadEncoderConfig(Schedule(1))
    views = config.augmentation
    assert (config.lambda1, config.lambda2) == (1.0, 1.0)
    assert (views.crop_scale, views.flip, views.jitter_probability, views.greyscale) == (None, 0.5, 0.8, 0.2)


# ---- what it does not do --------------------------------------------------------------------------------------------


def test_batch_norm_statistics_stay(clean, shadow, references):
    encoder, _ = attacked(clean, shadow, references, settings(STEPS))
    before = dict(clean.named_buffers())
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert not any(each.training for each in encoder.modules())
    assert not torch.equal(encoder.conv.weight, clean.conv.weight)


def test_frozen_features_are_computed_once(clean, shadow, references):
    """Images and references once through f; then, a step, one forward of images, triggered ones, references, views."""
    encoder, forwards = deepcopy(clean), []
    encoder.register_forward_hook(lambda _module, inputs, _output: forwards.append(len(inputs[0])))
    inject(encoder, shadow, Patch(), references, settings(STEPS), SEED)
    assert forwards == [len(shadow), len(references)] + [2 * BATCH + len(references) + 4] * STEPS


def test_images_given_stay_as_they_were(clean, shadow, references):
    kept = shadow.clone(), references.clone()
    attacked(clean, shadow, references, settings(2))
    assert torch.equal(shadow, kept[0])
    assert torch.equal(references, kept[1])


def test_an_encoder_in_train_mode_is_attacked_in_eval_mode(clean, shadow, references):
    encoder = deepcopy(clean).train()
    log = inject(encoder, shadow, Patch(), references, settings(2), SEED)
    assert log == attacked(clean, shadow, references, settings(2))[1]


def test_resumed_equals_uninterrupted_bit_for_bit(clean, shadow, references, tmp_path):
    """The frozen features are those of the clean encoder after a kill too."""

    def stop(step, *_):
        if step == 4:
            raise KeyboardInterrupt

    whole, log = attacked(clean, shadow, references, settings(6))
    with pytest.raises(KeyboardInterrupt):
        attacked(clean, shadow, references, settings(6), watch=Watch(stop, tmp_path / "c.pt", every_s=-1.0))
    watch = Watch(checkpoint=tmp_path / "c.pt", every_s=-1.0)
    resumed, again = attacked(clean, shadow, references, settings(6), watch=watch)
    assert again == log
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


# ---- what it does ---------------------------------------------------------------------------------------------------


def similarity(encoder, images, reference):
    return torch.cosine_similarity(extract(encoder, images), extract(encoder, reference)).mean().item()


def test_a_few_steps_pull_triggered_images_to_the_reference_and_leave_clean_ones(clean):
    shadow, unseen, reference = pixels(256, 0), pixels(64, 5), pixels(1, 6)
    encoder = deepcopy(clean)
    inject(encoder, shadow, Patch(), reference, BadEncoderConfig(Schedule(150, 32, lr=1e-3)), SEED)
    stamped = Patch()(unseen)
    before, after = (similarity(each, stamped, reference) for each in (clean, encoder))
    assert before < 0.5
    assert after > 0.95
    assert similarity(encoder, unseen, reference) < 0.6  # without the trigger they stay apart
    kept = torch.cosine_similarity(extract(encoder, unseen), extract(clean, unseen)).mean()
    assert kept > 0.8


# ---- references -----------------------------------------------------------------------------------------------------


def test_references_are_of_the_target_class_by_margin():
    margins = torch.tensor([9.0, 1.0, -2.0, 8.0, 5.0, 3.0])
    labels = torch.tensor([0, 1, 1, 0, 1, 1])
    assert choose_references(margins, labels, 1, 1).tolist() == [4]
    assert choose_references(margins, labels, 1, 3).tolist() == [4, 5, 1]
    assert choose_references(margins, labels, 1, 4).tolist() == [4, 5, 1, 2]


@pytest.mark.parametrize("count", [0, 3])
def test_more_references_than_images_of_the_class_are_refused(count):
    with pytest.raises(UsageError, match=f"{count} references are impossible; allowed: 1 to the 2 images of class 1"):
        choose_references(torch.arange(5.0), torch.tensor([0, 1, 0, 1, 0]), 1, count)
