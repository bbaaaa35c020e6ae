"""The guard: when each part acts, and that it draws nothing from the method."""

import pytest
import torch

from distill_lib.datafree.defence import DEFENCES, DefenceConfig, Guard
from distill_lib.datafree.divergence import Gauge, kl
from distill_lib.datafree.retrospection import RetrospectionConfig, find_delta, retrospect
from distill_lib.datafree.vaccine import OFF, VaccineConfig

ON = VaccineConfig(acceptance=False, start=0.0)


def test_the_four_defences():
    parts = {name: (each.sv is not None, each.sr is not None) for name, each in DEFENCES.items()}
    assert parts == {"none": (False, False), "sv": (True, False), "sr": (False, True), "abd": (True, True)}


def test_switched_off_it_adds_nothing(teacher, student, unit_images):
    guard = Guard(DefenceConfig(), teacher, student, 10, 0)
    guard.prepare(9, lambda *_: pytest.fail("no images are needed"))
    maps, logits = teacher.trunk(unit_images), teacher(unit_images)
    learned = student.eval()(unit_images)
    assert guard.modules() == {}
    assert guard.generator_terms(maps, logits, "batch") == {}
    assert guard.student_terms(9, unit_images) == {}
    assert guard.rate(9, 0.3) == 0.3
    assert guard.suspects(maps, logits) is None
    assert torch.equal(guard.divergence(None, logits, learned, 2.0), kl(logits, learned, 2.0))


def test_the_vaccine_waits_for_its_time_and_is_tried_once(teacher, student, unit_images):
    guard = Guard(DefenceConfig(sv=VaccineConfig(start=0.3, outliers=0.99, probes=16)), teacher, student, 10, 0)
    asked = []

    def probes(count, source):
        asked.append((count, source.initial_seed()))
        return unit_images

    for turn in range(6):
        guard.prepare(turn, probes)
        assert guard.vaccine.decided == (turn >= 3)
    assert [count for count, _ in asked] == [16]
    maps, logits = teacher.trunk(unit_images), teacher(unit_images)
    assert guard.generator_terms(maps, logits, "batch") == {"sv": torch.zeros(())}  # refused: no outliers to that share
    assert guard.suspects(maps, logits) is None


def test_retrospection_acts_at_the_end_with_its_own_rate(teacher, student, unit_images):
    teacher.requires_grad_(False)
    config = RetrospectionConfig(share=0.2, steps=2, student_lr=3e-4)
    guard = Guard(DefenceConfig(sr=config), teacher, student, 10, 0)
    assert [guard.rate(turn, 0.1) for turn in (0, 7, 8, 9)] == [0.1, 0.1, 3e-4, 3e-4]
    assert guard.student_terms(7, unit_images) == {"sr": torch.zeros(())}
    first, second = guard.student_terms(8, unit_images)["sr"], guard.student_terms(8, unit_images)["sr"]
    assert first.requires_grad
    assert first.item() == second.item() > 0


@pytest.mark.parametrize("renew", [False, True])
def test_the_students_optimiser_begins_anew_once_if_asked(teacher, student, renew):
    guard = Guard(DefenceConfig(sr=RetrospectionConfig(share=0.3, renew=renew)), teacher, student, 10, 0)
    assert [turn for turn in range(10) if guard.renews(turn)] == ([7] if renew else [])
    assert not Guard(DefenceConfig(), teacher, student, 10, 0).renews(9)


def test_the_logs_end_says_what_became_of_the_vaccine(teacher, student, unit_images):
    def noted(config):
        guard = Guard(config, teacher, student, 10, 0)
        guard.prepare(9, lambda *_: unit_images)
        return guard, guard.noted([{"kl": 1.0}, {"kl": 0.5}], lambda *_: unit_images)

    guard, log = noted(DefenceConfig(sv=ON))
    maps = teacher.trunk(unit_images)
    share = guard.suspects(maps, teacher.tail(maps)).double().mean().item()
    assert 0 < share < 1
    assert log == [{"kl": 1.0}, {"kl": 0.5, "vaccine": 0.0, "suspicious": share}]
    assert noted(DefenceConfig(sv=VaccineConfig(outliers=0.99, probes=16)))[1][-1] == {"kl": 0.5, "vaccine": OFF}
    assert noted(DefenceConfig(sr=RetrospectionConfig()))[1][-1] == {"kl": 0.5}
    assert guard.noted([], lambda *_: pytest.fail("no images are needed")) == []


@pytest.mark.parametrize("softened", [True, False])
def test_retrospection_is_measured_as_the_method_measures(teacher, student, unit_images, softened):
    teacher.requires_grad_(False)
    config = RetrospectionConfig(share=1.0, steps=2, outer=0.25, softened=softened)
    gauge, plain = Gauge(8.0, True), Gauge()
    guard = Guard(DefenceConfig(sr=config), teacher, student, 10, 0, gauge)
    used = gauge if softened else plain
    delta = find_delta(teacher, unit_images, config, guard._source(3), used)
    expected = retrospect(student, unit_images, delta, config, used)
    assert guard.student_terms(3, unit_images)["sr"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("found_on", ["teacher", "student"])
def test_delta_is_found_once_a_turn_on_the_teacher_only(teacher, student, unit_images, found_on, monkeypatch):
    teacher.requires_grad_(False)
    calls = []

    def find(model, images, config, source, gauge):
        calls.append(model)
        return torch.ones(1, 3, 32, 32)

    monkeypatch.setattr("distill_lib.datafree.defence.find_delta", find)
    config = RetrospectionConfig(share=1.0, found_on=found_on)
    guard = Guard(DefenceConfig(sr=config), teacher, student, 10, 0)
    for turn in (0, 0, 1):
        guard.student_terms(turn, unit_images)
    assert calls == ([teacher] * 2 if found_on == "teacher" else [student] * 3)
    assert student.training  # as it was


def test_the_vaccine_alone_leaves_the_students_terms(teacher, student, unit_images):
    guard = Guard(DefenceConfig(sv=ON), teacher, student, 10, 0)
    guard.prepare(0, lambda *_: unit_images)
    assert guard.student_terms(9, unit_images) == {}
    assert set(guard.modules()) == {"vaccine"}
    maps, logits = teacher.trunk(unit_images), teacher(unit_images)
    assert guard.generator_terms(maps, logits, "batch")["sv"] < 0


def test_the_students_batch_norms_stand_still_while_it_looks_back(teacher, student, unit_images):
    guard = Guard(DefenceConfig(sr=RetrospectionConfig(share=0.2)), teacher, student, 10, 0)
    modes = []
    for turn in range(10):
        guard.set_mode(turn)
        modes.append(student.training)
    assert modes == [True] * 8 + [False] * 2
