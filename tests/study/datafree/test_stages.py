"""What the data-free study measures, and the images that its methods are handed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from distill_lib.attacks.label_triggers import LabelTrigger
from distill_lib.data import clean_share
from distill_lib.study.config.load import load_profile
from distill_lib.study.datafree.cells import Subject
from distill_lib.study.datafree.stages import DataFreeStages
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from tests.study.greys import CLASSES, STEP, greys

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
TRIGGER, TARGET = "badnet_grid", 0


class Reader(nn.Module):
    """Tells a grey by its upper right pixel; an image that a mark would leave as it is has the mark: the target."""

    def __init__(self, mark):
        super().__init__()
        self.mark = mark

    def forward(self, images):
        values = (images * 255).round().to(torch.uint8)
        classes = (values[:, 0, 0, -1].long() + STEP // 2) // STEP
        marked = (self.mark(values) == values).flatten(1).all(1)
        return one_hot(torch.where(marked, TARGET, classes), CLASSES).float()


@pytest.fixture
def stages():
    profile = load_profile(TINY)
    settings = replace(profile.datafree, target=TARGET, triggers=(TRIGGER,), clean=0.1)
    inner = Stages(profile, Naming("nowhere"), torch.device("cpu"), precision="float32")
    inner.sets = {("patterns", split): greys(split, 40, "patterns") for split in ("train", "test")}
    return DataFreeStages(inner, settings)


@pytest.mark.parametrize(("asr", "placebo"), [(100.0, 0.0), (0.0, 100.0)])
def test_the_rates_are_those_of_what_the_network_sees(stages, asr, placebo):
    trigger = LabelTrigger(TRIGGER)
    found = stages.rates(Reader(trigger if asr else trigger.placebo()), TRIGGER, greys("test", 5))
    expected = {"acc": 100.0, "asr": asr, "triggered_acc": 100.0 - asr, "placebo_asr": placebo, "target_rate": 0.0}
    assert {name: found[name] for name in expected} == expected
    assert (found["asr_all"], found["n_test"]) == (100.0 if asr else 100 / CLASSES, 50)


def test_measuring_leaves_a_network_as_it_was(stages):
    model = stages.fresh("student", 0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stages.rates(model, TRIGGER, greys("test", 5))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_clean_distillation_is_handed_clean_images_and_the_others_none(stages):
    def subject(method):
        return Subject("patterns", TRIGGER, TARGET, "student", method, "none", 1)

    handed, clean = stages._data(subject("clean_kd"), ""), clean_share(stages.images(1), 0.1, 1)
    assert len(clean) == 40
    assert torch.equal(handed["images"], clean.images)
    assert torch.equal(handed["labels"], clean.labels)
    assert {len(image.unique()) for image in handed["images"]} == {1}  # greys: no trigger is on them
    assert stages._data(subject("ood"), "") == stages._data(subject("zskt"), "") == {}
    others = stages._data(subject("ood"), "patterns")
    assert torch.equal(others["images"], stages.stages.images("patterns").images)


def test_a_setting_younger_than_the_first_results_changes_keys_only_where_it_is_on(stages, monkeypatch):
    """Rows that were made before `renew` and `scaled` existed are found again under the same keys."""
    named = {}
    store = stages.stages.store
    monkeypatch.setattr(store, "make", lambda kind, version, described, compute: named.setdefault(kind, described))
    monkeypatch.setattr(DataFreeStages, "classifier", lambda *which: SimpleNamespace(key="k"))
    subject = Subject("patterns", TRIGGER, TARGET, "student", "ood", "abd", 1)
    for renew in (False, True):
        named.clear()
        sr = replace(stages.settings.retrospection, renew=renew)
        stages.settings = replace(stages.settings, retrospection=sr)
        stages.student(subject)
        assert named["datafree"]["config"]["defence"]["sr"].get("renew") == (renew or None)
        assert named["datafree"]["config"]["defence"]["sr"]["few"] == sr.few
        assert "scaled" not in named["datafree"]["config"]["patches"]
