"""SimCLR on a handful of images."""

import pytest
import torch
from torch import nn

from distill_lib.training.contrastive import nt_xent
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import Projector, SimCLRConfig, simclr, two_views
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import EncoderConfig, build_encoder

PLAIN = Augmentation(crop_scale=None, flip=0.0, jitter_probability=0.0, greyscale=0.0)


def build(seed=0):
    return build_encoder(EncoderConfig(10, 4, 4), seed)


@pytest.fixture(scope="module")
def images():
    """32 images, each of a colour and a texture of its own."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(32, 3, 4, 4, generator=source)
    return (nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


def config(steps=30, **others):
    return SimCLRConfig(Schedule(steps, 16, lr=3e-3), projection=(16, 8), **others)


def test_the_loss_falls_and_the_encoder_is_left_in_eval_mode(images):
    encoder = build()
    before = encoder.conv.weight.clone()
    mild = Augmentation(crop_scale=(0.6, 1.0), jitter_probability=0.0, greyscale=0.0)
    log = simclr(encoder, images, config(60, augmentation=mild), seed=0)
    losses = [row["nt_xent"] for row in log]
    assert sum(losses[-10:]) < sum(losses[:10]) - 10 * 0.3
    assert set(log[0]) == {"step", "lr", "nt_xent"}
    assert not any(each.training for each in encoder.modules())
    assert not torch.equal(encoder.conv.weight, before)


def test_the_first_steps_loss_by_hand(images):
    """The seed is that of projector, order and views."""
    log = simclr(build(), images, config(1, temperature=0.2), seed=7)
    source = torch.Generator().manual_seed(7)
    rows = torch.randperm(len(images), generator=source)[:16]
    views = Augmentation()(torch.cat([images[rows], images[rows]]), source)
    first, second = Projector(32, 16, 8, seed=7)(build()(views)).chunk(2)
    assert log[0]["nt_xent"] == pytest.approx(nt_xent(first, second, 0.2).item(), rel=1e-5)


def test_batch_norm_learns_its_statistics(images):
    encoder = build()
    simclr(encoder, images, config(5), seed=0)
    assert encoder.bn.num_batches_tracked == 5  # both views in one forward a step


def test_the_seed_decides_the_result(images):
    weights = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        encoder = build()
        torch.rand(len(name))  # the global generator has no part in it
        simclr(encoder, images, config(4), seed)
        weights[name] = encoder.stage4[0].conv1.weight
    assert torch.equal(weights["first"], weights["again"])
    assert not torch.equal(weights["first"], weights["other"])


def test_resumed_equals_uninterrupted_bit_for_bit(images, tmp_path):
    def stop(step, *_):
        if step == 5:
            raise KeyboardInterrupt

    whole = build()
    log = simclr(whole, images, config(8), seed=3)
    with pytest.raises(KeyboardInterrupt):
        simclr(build(), images, config(8), 3, Watch(stop, tmp_path / "c.pt", every_s=-1.0))
    resumed = build()
    assert simclr(resumed, images, config(8), 3, Watch(checkpoint=tmp_path / "c.pt", every_s=-1.0)) == log
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_two_views_are_of_the_same_images_in_the_same_order(images):
    rows = torch.tensor([5, 0, 31])
    plain = two_views(images, rows, PLAIN, torch.Generator().manual_seed(0))
    expected = images[rows].float() / 255
    assert torch.equal(plain, torch.cat([expected, expected]))
    first, second = two_views(images, rows, Augmentation(), torch.Generator().manual_seed(0)).chunk(2)
    assert (first - second).abs().flatten(1).amax(1).min() > 0.05


def test_projector():
    projector = Projector(6, 5, 4)
    assert [type(each).__name__ for each in projector] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert projector(torch.rand(3, 6)).shape == (3, 4)
    assert projector[0].bias is None  # batch norm follows
    assert projector[0].weight.shape == (5, 6)


def test_the_papers_projector_is_the_default():
    assert SimCLRConfig(Schedule(1)).projection == (512, 128)
    assert [each.out_features for each in Projector(512) if isinstance(each, nn.Linear)] == [512, 128]


def test_the_projectors_seed_decides_its_weights(monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()
    first, again, other = (Projector(6, 5, 4, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_projector_runs_in_the_encoders_precision(monkeypatch):
    made = []

    def make(*args):
        made.append(Projector(*args))
        return made[-1]

    monkeypatch.setattr("distill_lib.training.simclr.Projector", make)
    for precision in ("float32", "bf16"):
        encoder = build_encoder(EncoderConfig(10, 16, 2), 0, precision)
        simclr(encoder, torch.zeros(4, 3, 32, 32, dtype=torch.uint8), SimCLRConfig(Schedule(1, 4)), seed=0)
    outputs = [projector(torch.rand(4, 128)) for projector in made]
    assert [output.dtype for output in outputs] == [torch.float32] * 2
    assert [torch.equal(output, output.bfloat16().float()) for output in outputs] == [False, True]
