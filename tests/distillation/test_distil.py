"""Distillation: its terms, what it trains, what it leaves alone."""

from copy import deepcopy

import pytest
import torch

from distill_lib.distillation import distil as module
from distill_lib.distillation.distil import DistilConfig, beta_quantiles, distil, mix
from distill_lib.distillation.losses import Representation, compute, prepare, resolve
from distill_lib.distillation.losses.mimic import mimic_weights
from distill_lib.errors import UsageError
from distill_lib.training.contrastive import nt_xent
from distill_lib.training.loop import Schedule, Watch
from distill_lib.training.simclr import Projector
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.encoders import STAGES, EncoderConfig, build_encoder
from distill_lib.vision.features import collect, extract, to_unit

BATCH = 8
NAMES = ("kd", "sp", "fitnet", "cc", "at", "afd", "cosine", "at:nad")
NAMES += ("kd:released", "cc:released", "afd:released", "afd:learned")


def build(seed):
    return build_encoder(EncoderConfig(10, 4, 4), seed)


@pytest.fixture(scope="module")
def teacher():
    encoder = build(0)
    encoder(torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(4)))  # batch-norm statistics
    return encoder.eval()


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, (32, 32)) * 255).to(torch.uint8)


def settings(loss="at", steps=2, lr=1e-3, **others):
    return DistilConfig(Schedule(steps, BATCH, lr=lr), loss, projection=(16, 8), **others)


def agreement(student, teacher, images):
    return torch.cosine_similarity(extract(student, images), extract(teacher, images)).mean().item()


# ---- terms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_trains_beside_nt_xent(teacher, images, name):
    student = build(1)
    log = distil(teacher, student, images, settings(name), seed=0)
    assert list(log[0]) == ["step", "lr", name.partition(":")[0], "nt_xent"]
    assert not torch.equal(student.conv.weight, build(1).conv.weight)
    assert not any(each.training for each in student.modules())


def test_a_weight_of_0_leaves_nt_xent_out(teacher, images):
    student = build(1)
    log = distil(teacher, student, images, settings("cosine", nt_xent_weight=0.0), seed=0)
    assert list(log[0]) == ["step", "lr", "cosine"]


def test_a_cosine_term_beside_the_loss_has_its_own_column(teacher, images):
    log = distil(teacher, build(1), images, settings("sp:released"), seed=0)
    assert list(log[0]) == ["step", "lr", "cosine", "nt_xent"]


def test_a_cosine_term_can_stand_beside_any_loss(teacher, images):
    log = distil(teacher, build(1), images, settings("at", steps=1, cosine_weight=2.0), seed=7)
    alone = distil(teacher, build(1), images, settings("cosine", steps=1, weight=1.0), seed=7)
    assert list(log[0]) == ["step", "lr", "at", "cosine", "nt_xent"]
    assert log[0]["cosine"] == pytest.approx(2 * alone[0]["cosine"], rel=1e-5)


def first_step(teacher, student, images, seed, contrastive=True):
    """Views, teacher's output and student's output and maps of the first step, as the loop draws them."""
    source = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(images), generator=source)[:BATCH]
    batch = torch.cat([images[rows], images[rows]]) if contrastive else images[rows]
    views = Augmentation()(batch, source)
    return (*collect(teacher, views[:BATCH]), *collect(student.train(), views))


@pytest.mark.parametrize("weights", [(1000.0, 1.0), (10.0, 0.3)])
def test_the_first_steps_terms_by_hand(teacher, images, weights):
    """AT over the four stages on the first view, NT-Xent between the two views of the student."""
    weight, contrastive = weights
    config = settings("at", steps=1, weight=weight, nt_xent_weight=contrastive, temperature=0.2)
    log = distil(teacher, build(1), images, config, seed=7)
    _, taught, output, learned = first_step(teacher, build(1), images, 7)
    expected = 0.0
    for stage in STAGES:
        a, b = (
            torch.nn.functional.normalize(maps[stage][:BATCH].square().sum(1).flatten(1), dim=1)
            for maps in (learned, taught)
        )
        expected += (a - b).square().mean().item()
    one, two = Projector(32, 16, 8, seed=7)(output).chunk(2)
    assert log[0]["at"] == pytest.approx(weight * expected, rel=1e-4)
    assert log[0]["nt_xent"] == pytest.approx(contrastive * nt_xent(one, two, 0.2).item(), rel=1e-5)


def test_the_first_steps_cosine_by_hand(teacher, images):
    log = distil(teacher, build(1), images, settings("cosine", steps=1, nt_xent_weight=0.0), seed=7)
    taught, _, output, _ = first_step(teacher, build(1), images, 7, contrastive=False)
    expected = 1 - torch.cosine_similarity(output, taught).mean()
    assert log[0]["cosine"] == pytest.approx(expected.item(), rel=1e-5)


def test_an_unknown_loss_is_named(teacher, images):
    with pytest.raises(UsageError, match="unknown loss 'att'; allowed: kd"):
        distil(teacher, build(1), images, settings("att"), seed=0)


def test_mimics_stage_weights_are_those_of_the_teacher_on_clean_images(teacher, images, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "prepare", lambda *arguments: kept.append(prepare(*arguments)) or kept[-1])
    log = distil(teacher, build(1), images, settings("mimic", steps=1), seed=0)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = mimic_weights(Representation(*collect(teacher, to_unit(images[order]))))
    assert kept[0].relative == pytest.approx(expected, rel=1e-4)
    assert list(log[0]) == ["step", "lr", "mimic", "cosine", "nt_xent"]


# ---- mixup ----------------------------------------------------------------------------------------------------------


def test_mixup_of_0_draws_nothing(teacher, images):
    """The terms by hand above hold with the generator's draws as they were; here, after several steps, bit for bit."""
    students = build(1), build(1)
    logs = [
        distil(teacher, student, images, config, seed=0)
        for student, config in zip(students, (settings(steps=4), settings(steps=4, mixup=0.0)), strict=True)
    ]
    assert logs[0] == logs[1]
    source, whole = torch.Generator().manual_seed(0), build(1).train()
    order = torch.randperm(len(images), generator=source)
    modules = torch.nn.ModuleDict({"s": whole, "p": Projector(32, 16, 8, seed=0)})
    optimiser = torch.optim.Adam(modules.parameters(), 1e-3, weight_decay=1e-6, fused=True)
    loss = prepare(resolve("at"), {}, 0)
    for rows in order.split(BATCH):
        views = Augmentation()(images[rows].repeat(2, 1, 1, 1), source)
        with torch.no_grad():
            taught = Representation(*collect(teacher, views[:BATCH]))
        output, maps = collect(whole, views)
        learned = Representation(output[:BATCH], {path: each[:BATCH] for path, each in maps.items()})
        terms = compute(loss, learned, taught)
        total = terms["at"] + nt_xent(*modules["p"](output).chunk(2), 0.5)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    state = students[0].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())


def seen_by(encoder):
    seen = []
    encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    return seen


@pytest.mark.parametrize("contrastive", [False, True])
def test_teacher_and_student_see_the_same_mixed_views(teacher, images, contrastive):
    copy, student = deepcopy(teacher), build(1)
    taught, learned = seen_by(copy), seen_by(student)
    config = settings("cosine", steps=1, nt_xent_weight=float(contrastive), mixup=1.0)
    distil(copy, student, images, config, seed=7)
    source = torch.Generator().manual_seed(7)
    rows = torch.randperm(len(images), generator=source)[:BATCH]
    views = Augmentation()(images[rows].repeat(1 + contrastive, 1, 1, 1), source)
    mixed = mix(views[:BATCH], beta_quantiles(1.0), source)
    assert torch.equal(taught[0], mixed)
    expected = torch.cat([mixed, views]) if contrastive else mixed
    assert torch.equal(learned[-1], expected)  # NT-Xent on the plain views behind
    assert len(learned[-1]) == BATCH * config.views_per_image
    assert not torch.allclose(mixed, views[:BATCH])


def test_nt_xent_is_that_of_the_plain_views(teacher, images):
    config = settings("cosine", steps=1, mixup=1.0, temperature=0.2)
    log = distil(teacher, build(1), images, config, seed=7)
    source = torch.Generator().manual_seed(7)
    rows = torch.randperm(len(images), generator=source)[:BATCH]
    views = Augmentation()(images[rows].repeat(2, 1, 1, 1), source)
    mixed = mix(views[:BATCH], beta_quantiles(1.0), source)
    output = build(1).train()(torch.cat([mixed, views]))
    both = Projector(32, 16, 8, seed=7)(output[BATCH:]).chunk(2)
    assert log[0]["nt_xent"] == pytest.approx(nt_xent(*both, 0.2).item(), rel=1e-5)
    expected = 1 - torch.cosine_similarity(output[:BATCH], teacher(mixed)).mean()
    assert log[0]["cosine"] == pytest.approx(expected.item(), rel=1e-5)


def test_mix():
    """One share for the batch, each view with one partner, in the same memory format."""
    views = torch.eye(6).view(6, 1, 1, 6).expand(6, 3, 2, 6).contiguous(memory_format=torch.channels_last)
    mixed = mix(views, torch.tensor([0.25]), torch.Generator().manual_seed(0))
    partners = ((mixed[:, 0, 0] - 0.25 * torch.eye(6)) / 0.75).round()
    assert (partners.sum(0) == 1).all()
    assert (partners.sum(1) == 1).all()
    torch.testing.assert_close(mixed, 0.25 * views + 0.75 * views[partners.argmax(1)])
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mix(views, torch.tensor([1.0]), torch.Generator()), views)


@pytest.mark.parametrize("parameter", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(parameter):
    shares = beta_quantiles(parameter)
    assert (shares.min() >= 0, shares.max() <= 1) == (True, True)
    assert shares.mean().item() == pytest.approx(0.5, abs=1e-4)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * parameter + 1)), rel=0.01)
    torch.testing.assert_close(shares + shares.flip(0), torch.ones(1024), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("others", "count"),
    [({}, 2), ({"nt_xent_weight": 0.0}, 1), ({"mixup": 1.0}, 3), ({"nt_xent_weight": 0.0, "mixup": 1.0}, 1)],
)
def test_views_per_image(others, count):
    assert settings(**others).views_per_image == count


@pytest.mark.parametrize("mixup", [-0.1, float("inf"), float("nan")])
def test_an_impossible_mixup_is_named(mixup):
    with pytest.raises(UsageError, match=f"mixup {mixup} is impossible; allowed: 0"):
        settings(mixup=mixup)


# ---- the teacher ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["at", "cosine", "afd:learned"])
def test_the_teacher_is_left_bit_for_bit(teacher, images, name):
    copy = deepcopy(teacher).train()  # even one handed over in train mode
    distil(copy, build(1), images, settings(name, steps=3), seed=0)
    before = teacher.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in copy.state_dict().items())
    assert all(each.grad is None for each in copy.parameters())
    assert not any(each.training for each in copy.modules())


def test_one_teacher_pass_a_step_on_one_view_without_gradients(teacher, images):
    copy, seen = deepcopy(teacher), []
    copy.register_forward_hook(lambda _module, inputs, output: seen.append((len(inputs[0]), output.requires_grad)))
    distil(copy, build(1), images, settings(steps=3), seed=0)
    assert seen == [(BATCH, False)] * 3


# ---- the student ----------------------------------------------------------------------------------------------------


def test_the_student_moves_to_the_teacher(teacher, images):
    student = build(1)
    student(torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(5)))
    before = agreement(student, teacher, images)
    log = distil(teacher, student, images, settings("cosine", 120, 1e-2, nt_xent_weight=0.0), seed=0)
    assert agreement(student, teacher, images) > before + 0.3
    assert log[-1]["cosine"] < 0.6 * log[0]["cosine"]


def test_the_seed_decides_the_result(teacher, images):
    weights = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        student = build(1)
        torch.rand(len(name))
        distil(teacher, student, images, settings(), seed)
        weights[name] = student.stage4[0].conv1.weight
    assert torch.equal(weights["first"], weights["again"])
    assert not torch.equal(weights["first"], weights["other"])


# ---- a loss with parameters of its own ------------------------------------------------------------------------------


def test_the_learned_attention_is_trained(teacher, images, monkeypatch):
    kept = []

    def prepare(*arguments):
        loss = original(*arguments)
        kept.append((loss.function, deepcopy(loss.function.state_dict())))
        return loss

    original = module.prepare
    monkeypatch.setattr(module, "prepare", prepare)
    distil(teacher, build(1), images, settings("afd:learned", 3), seed=0)
    ((function, before),) = kept
    after = function.state_dict()
    assert len(before) == 4 * len(STAGES)
    for stage in STAGES:
        assert not torch.equal(after[f"blocks.{stage}.excite"], before[f"blocks.{stage}.excite"])


@pytest.mark.parametrize(
    ("name", "mixup"), [("at", 0.0), ("afd:learned", 0.0), ("afd:released", 0.0), ("mimic", 0.0), ("at", 1.0)]
)
def test_resumed_equals_uninterrupted_bit_for_bit(teacher, images, tmp_path, name, mixup):
    """The student, its projector, the loss's parameters and weights, what the loss and mixup draw."""

    def stop(step, *_):
        if step == 4:
            raise KeyboardInterrupt

    path, whole, resumed = tmp_path / "c.pt", build(1), build(1)
    config = settings(name, 6, mixup=mixup)
    log = distil(teacher, whole, images, config, seed=3)
    with pytest.raises(KeyboardInterrupt):
        distil(teacher, build(1), images, config, 3, Watch(stop, path, every_s=-1.0))
    assert distil(teacher, resumed, images, config, 3, Watch(checkpoint=path, every_s=-1.0)) == log
    state = resumed.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())
