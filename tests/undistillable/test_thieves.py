"""Thieves: conventions by value, each different from KD only as named, resuming, what is missing is named."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from distill_lib.datafree import METHODS
from distill_lib.datafree.generator import GeneratorConfig
from distill_lib.datafree.ood import OODConfig
from distill_lib.datafree.picture import PatchConfig, PictureConfig
from distill_lib.datafree.zskt import ZSKTConfig
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule
from distill_lib.training.supervised import SupervisedConfig, train_classifier
from distill_lib.undistillable.guards import DefenceError
from distill_lib.undistillable.skeptical import extra_heads, stages
from distill_lib.undistillable.stingy import FINITE, Stingy
from distill_lib.undistillable.thieves import THIEVES, ThiefConfig, part_of, plainly, smoothed_terms, steal
from distill_lib.vision.features import collect, to_unit
from distill_lib.vision.wide_resnet import WideResNetConfig, build_wide_resnet

CONFIG = ThiefConfig(Schedule(5, 8, "sgd", 0.01))
TRAINED = [name for name in THIEVES if name != "data_free"]


def constant(model, logits):
    """Make a network answer the same logits to every image."""
    model.head.weight.data.zero_()
    model.head.bias.data.copy_(torch.tensor(logits))
    return model


@pytest.fixture
def theft(normal, fresh, data):
    """Runs a thief on the common data; returns its log and its student."""

    def run(name, config=CONFIG, seed=0, watch=None, student=None, teacher=normal):
        student = student or fresh()
        log = steal(name, teacher, student, config, seed, watch, images=data[0], labels=data[1])
        return log, student

    return run


# ---- conventions by value -------------------------------------------------------------------------------------------

# The teacher's chances at T = 4 are 17/20 and thrice 1/20, the student's all 1/4; at T = 1, 17^4 to 1. The teacher's
# divergence from the student is .80, the way back .90: the value tells the direction.
TAUGHT = [4 * math.log(17.0), 0.0, 0.0, 0.0]
DIVERGENCE = 0.85 * math.log(17 / 5) + 0.15 * math.log(1 / 5)
SURE = 17.0**4 / (17.0**4 + 3)
DIVERGENCE_T1 = SURE * math.log(4 * SURE) + (1 - SURE) * math.log(4 * (1 - SURE) / 3)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("alone", {"cross_entropy": math.log(4)}),
        ("label_smoothing", {"cross_entropy": math.log(4)}),
        ("kd", {"kl": 0.9 * 16 * DIVERGENCE, "cross_entropy": 0.1 * math.log(4)}),
        ("kd_part", {"kl": 0.9 * 16 * DIVERGENCE, "cross_entropy": 0.1 * math.log(4)}),
        ("kd_t1", {"kl": 0.9 * DIVERGENCE_T1, "cross_entropy": 0.1 * math.log(4)}),
        ("kd_other", {"kl": 16 * DIVERGENCE}),
        ("hard_label", {"hard_label": 0.9 * math.log(4), "cross_entropy": 0.1 * math.log(4)}),
    ],
)
def test_the_loss_by_value(theft, normal, fresh, name, terms):
    log, _ = theft(name, student=constant(fresh(), [0.0] * 4), teacher=constant(normal, TAUGHT))
    found = {key: value for key, value in log[0].items() if key not in ("step", "lr")}
    assert found == pytest.approx(terms, rel=1e-5)


def test_label_smoothing_by_value():
    """A student that gives the true class 97 % and three others 1 % each; a fifth of the label goes to all four."""
    learned, config = torch.tensor([[math.log(97.0), 0.0, 0.0, 0.0]]), replace(CONFIG, smoothing=0.2)
    value = smoothed_terms(learned, None, torch.tensor([0]), config)["cross_entropy"].item()
    assert value == pytest.approx(-0.85 * math.log(0.97) - 0.15 * math.log(0.01), rel=1e-5)


def test_kds_first_step_by_hand(theft, normal, fresh, data, plain):
    """Against torch's own divergence: KL(teacher || student), batch mean, the teacher in eval mode."""
    log, _ = theft("kd", replace(CONFIG, augmentation=plain), seed=5)
    rows = torch.randperm(32, generator=torch.Generator().manual_seed(5))[:8]
    views = data[0][rows].float() / 255
    learned, taught = fresh().train()(views), normal(views)
    gap = kl_div(log_softmax(learned / 4, 1), softmax(taught / 4, 1), reduction="batchmean")
    assert log[0]["kl"] == pytest.approx(0.9 * 16 * gap.item(), rel=1e-4)
    assert log[0]["cross_entropy"] == pytest.approx(0.1 * cross_entropy(learned, data[1][rows]).item(), rel=1e-4)


# ---- each differs only as named -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "other"),
    [
        ("kd_t1", {"temperature": 1.0}, "kd"),
        ("kd_t20", {"temperature": 20.0}, "kd"),
        ("alone_part", {"share": 1.0}, "alone"),
        ("kd_part", {"alpha": 0.0}, "alone_part"),
        ("kd_part", {"share": 1.0}, "kd"),
        ("label_smoothing", {"smoothing": 0.0}, "alone"),
        ("kd", {"alpha": 0.0}, "alone"),
        ("hard_label", {"alpha": 0.0}, "alone"),
        ("kd_other", {"alpha": 1.0}, "kd"),
    ],
)
def test_without_what_is_named_it_is_the_other(theft, same, name, changes, other):
    config = replace(CONFIG, **changes)
    assert same(theft(name, config)[1], theft(other, config)[1])


def test_all_thieves_end_with_students_of_their_own(theft, same):
    students = {name: theft(name)[1] for name in TRAINED}
    assert not any(same(students[one], students[two]) for one in TRAINED for two in TRAINED if one < two)
    assert not any(student.training for student in students.values())


def test_alone_is_the_supervised_training(theft, fresh, data, same):
    model = fresh()
    train_classifier(model, *data, SupervisedConfig(CONFIG.schedule), 0)
    assert same(theft("alone")[1], model)


@pytest.mark.parametrize("name", ["alone", "label_smoothing", "alone_part", "skeptical_alone"])
def test_the_controls_need_no_teacher(theft, same, name):
    assert same(theft(name, teacher=None)[1], theft(name)[1])


def test_hard_labels_are_the_teachers_classes(normal, fresh, data, same):
    """At alpha = 1 it is the training alone, on the teacher's classes of the views."""
    model, student = fresh(), fresh()
    constant(normal, [0.0, 1.0, 0.0, 0.0])
    steal("hard_label", normal, student, replace(CONFIG, alpha=1.0), 0, images=data[0], labels=data[1])
    train_classifier(model, data[0], torch.ones_like(data[1]), SupervisedConfig(CONFIG.schedule), 0)
    assert same(model, student)


@pytest.mark.parametrize("name", THIEVES)
def test_a_thief_that_is_another_with_settings_is_found_out(name):
    temperatures = {"kd_t1": 1.0, "kd_t20": 20.0}
    config = replace(CONFIG, alpha=0.0) if name == "skeptical_alone" else CONFIG
    changed = ("kd", replace(CONFIG, temperature=temperatures.get(name, 4.0)))
    assert plainly(name, CONFIG) == (changed if name in temperatures else (name, config))


def test_part_of_the_data_is_the_seeds_own(theft, fresh, normal, data, same):
    rows = part_of(32, 0.5, 7)
    assert len(rows) == 16
    assert torch.equal(rows, rows.unique())
    assert not torch.equal(rows, part_of(32, 0.5, 8))
    assert len(part_of(32, 0.01, 0)) == 2
    student = fresh()
    steal("kd", normal, student, CONFIG, 7, images=data[0][rows], labels=data[1][rows])
    assert same(student, theft("kd_part", replace(CONFIG, share=0.5), seed=7)[1])


def test_a_thief_with_part_of_the_data_has_a_control_with_the_same_part(theft, fresh, data, same):
    rows, student = part_of(32, 0.5, 7), fresh()
    train_classifier(student, data[0][rows], data[1][rows], SupervisedConfig(CONFIG.schedule), 7)
    assert same(student, theft("alone_part", replace(CONFIG, share=0.5), seed=7)[1])


def test_the_skeptical_control_has_all_terms_but_the_teachers(theft):
    control, own = (theft(name)[0][0] for name in ("skeptical_alone", "skeptical"))
    assert own.keys() - control.keys() == {"kl"}
    assert control["shallow_cross_entropy"] == pytest.approx(10 * own["shallow_cross_entropy"])  # which has 1 - alpha
    same = ("self", "deep_cross_entropy", "cross_entropy")
    assert [control[term] for term in same] == pytest.approx([own[term] for term in same])


def test_the_teacher_talks_to_the_shallow_head(theft, normal, fresh, data, plain):
    """The first step by hand: of the two heads, the one that hears the teacher is the shallow one."""
    config, t = replace(CONFIG, augmentation=plain), CONFIG.temperature
    found = theft("skeptical", config, seed=3)[0][0]["kl"]
    student, rows = fresh(), torch.randperm(32, generator=torch.Generator().manual_seed(3))[:8]
    heads, images = extra_heads(student, data[0], config.skeptical, 3).train(), to_unit(data[0][rows])
    _, maps = collect(student.train(), images, stages(student, config.skeptical))
    taught = softmax(normal(images) / t, 1)
    gap = [
        config.alpha * t**2 * kl_div(log_softmax(head(each) / t, 1), taught, reduction="batchmean").item()
        for head, each in zip(heads.values(), maps.values(), strict=True)
    ]
    assert list(heads) == ["shallow", "deep"]
    assert found == pytest.approx(gap[0], rel=1e-3)
    assert found != pytest.approx(gap[1], rel=1e-2)


def test_a_student_that_diverges_is_explained(theft, normal, fresh):
    with pytest.raises(DefenceError, match=r"student of the thief 'kd' diverged .*a smaller learning rate"):
        theft("kd", replace(CONFIG, schedule=Schedule(6, 16, "sgd", 1e30)))

    def method(*_):
        raise FloatingPointError("at step 1")

    with pytest.raises(DefenceError, match=r"thief 'data_free' diverged \(at step 1\)"):
        steal("data_free", normal, fresh(), CONFIG, 0, method=method)


def test_other_images_need_no_labels(normal, fresh, data):
    log = steal("kd_other", normal, fresh(), CONFIG, 0, images=data[0])
    assert set(log[0]) == {"step", "lr", "kl"}


def test_a_data_free_method_is_handed_in(normal, fresh):
    student, seen = fresh(), []

    def method(*parts):
        seen.append(parts)
        student.train()
        return [{"step": 1}]

    assert steal("data_free", normal, student, CONFIG, 3, None, method=method) == [{"step": 1}]
    assert seen == [(normal, student, 3, None)]
    assert not student.training


@pytest.mark.parametrize("method", ["zskt", "ood"])
def test_a_data_free_method_robs_a_stingy_wide_resnet(method):
    """Its KL takes finite logits alone, and its teachers answer in two halves."""
    size = WideResNetConfig(10, 1, 4, stem_stride=4)
    teacher, student = build_wide_resnet(size, 0).eval(), build_wide_resnet(size, 1)
    small = {
        "zskt": ZSKTConfig(2, 8, 1, generator=GeneratorConfig(6, (16, 16))),
        "ood": OODConfig(Schedule(2, 8), PatchConfig(16, picture=PictureConfig(128, 600))),
    }

    def steals(teacher, student, seed, watch):
        return METHODS[method].run(teacher, student, small[method], seed, watch)

    log = steal("data_free", Stingy(teacher, 2, FINITE), student, CONFIG, 0, method=steals)
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert all(each.isfinite().all() for each in student.state_dict().values())


@pytest.mark.parametrize("name", ["kd", "kd_t1", "hard_label", "kd_other", "skeptical"])
@pytest.mark.parametrize("temperature", [4.0, 20.0])
def test_a_stingy_teacher_never_makes_a_thief_diverge(theft, normal, name, temperature):
    log, student = theft(name, replace(CONFIG, temperature=temperature), teacher=Stingy(normal, 2))
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert all(each.isfinite().all() for each in student.state_dict().values())


def test_the_teacher_is_left_as_it_is(theft, normal, same):
    normal.train()
    before = copy.deepcopy(normal)
    for name in ("kd", "skeptical"):
        theft(name)
    assert same(normal, before)
    assert normal.training
    assert all(each.requires_grad for each in normal.parameters())


# ---- resuming, settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kd", "label_smoothing", "skeptical"])
def test_a_killed_run_ends_bit_equal(theft, resumes, name):
    resumes(lambda model, watch: theft(name, watch=watch, student=model)[0])


def test_the_published_settings_are_the_defaults():
    config = ThiefConfig()
    assert (config.alpha, config.temperature, config.schedule.steps) == (0.9, 4.0, 160 * 390)


def test_wrong_values_are_named(normal, fresh, data):
    with pytest.raises(UsageError, match=r"alpha 1\.5, temperature"):
        ThiefConfig(alpha=1.5)
    with pytest.raises(UsageError, match="unknown thief 'burglar'; allowed: alone, label_smoothing, kd"):
        steal("burglar", normal, fresh(), CONFIG, 0, images=data[0], labels=data[1])
    with pytest.raises(
        UsageError, match="thief 'kd' needs a teacher; without one are allowed: alone, label_smoothing, alone_part, sk"
    ):
        steal("kd", None, fresh(), CONFIG, 0, images=data[0], labels=data[1])
    with pytest.raises(UsageError, match="thief 'kd' needs images"):
        steal("kd", normal, fresh(), CONFIG, 0)
    with pytest.raises(UsageError, match="32 images and no labels"):
        steal("kd", normal, fresh(), CONFIG, 0, images=data[0])
    with pytest.raises(UsageError, match="thief 'data_free' needs a method"):
        steal("data_free", normal, fresh(), CONFIG, 0)
