"""How each attack enters the study: what its training is given, and where it aims."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_lib.attacks import ctrl
from distill_lib.study import backdoors
from distill_lib.study.config.load import load_profile
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace
from tests.study.greys import STEP, Reader, greys

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")
WORK = Workspace("attacked", Path("nowhere"), Path("nowhere"), None)


class Computed:
    """A store that has nothing, keeps nothing and computes each thing that is asked for."""

    root = Path("nowhere")

    def make(self, kind, version, config, compute):
        _, metrics = compute(WORK) if kind in ("attacked", "aimed") else (None, {})
        made = Artefact(kind, kind, Path("nowhere"))
        made.__dict__["metrics"] = metrics  # read from its folder else
        return made


@pytest.fixture
def stages(monkeypatch):
    """Stages over greys whose encoder reads them; what a training would leave is the metrics alone."""
    where = {"pretrain": "greys", "downstream": ("greys",), "compared": "greys", "targets": {"greys": 3}}
    profile = replace(load_profile(TINY), **where, further={}, sweeps=())
    made = Stages(profile, Computed(), torch.device("cpu"))
    made.sets = {("greys", "train"): greys("train", 40), ("greys", "test"): greys("test", 5)}
    monkeypatch.setattr(Stages, "encoder", lambda self, artefact: Reader())
    monkeypatch.setattr(Stages, "trained", staticmethod(lambda work, encoder, log, **metrics: (None, metrics)))
    return made


def on_data(stages, attack, **settings):
    """The same under an attack on the pre-training images."""
    own = replace(getattr(stages.profile, attack), **settings)
    return replace(stages, profile=replace(stages.profile, attack=attack, **{attack: own}))


def test_badencoder_is_given_its_shadow_images_and_references_of_the_target(stages, monkeypatch):
    given = {}

    def inject(encoder, shadow, trigger, references, config, seed, watch):
        given.update(shadow=shadow, trigger=trigger, references=references, seed=seed)
        return []

    monkeypatch.setattr(backdoors, "inject", inject)
    made = stages.attacked(5, "greys")
    images = stages.pretraining.images
    assert torch.equal(given["shadow"], images[stages.shadow(5)])
    assert (len(given["shadow"]), given["seed"]) == (128, 5)
    assert given["trigger"] == stages.trigger()
    assert set(given["references"].flatten().tolist()) == {3 * STEP}  # the grey of the target class
    assert stages.references("greys", 5) == made.metrics["references"]


def test_ctrl_pre_trains_on_the_poisoned_images(stages, monkeypatch):
    given, asked = [], []
    monkeypatch.setattr(Stages, "fresh", lambda self, seed: Reader())
    real = backdoors.planting
    monkeypatch.setattr(backdoors, "planting", lambda *known: asked.append(known) or real(*known))
    monkeypatch.setattr(
        Stages, "pretrain", lambda self, encoder, images, seed, work, measure: given.append((images, measure())) or []
    )
    attack = on_data(stages, "ctrl", poisoned_class=2, rate=0.05)
    made = attack.attacked(0, "greys")
    clean, ((poisoned, noted),) = stages.pretraining, given
    assert noted == {"triggered": pytest.approx(0), "untriggered": pytest.approx(0)}  # Reader has no backdoor of CTRL's
    ((encoder, images, labels, poisoned_class, trigger),) = asked
    assert isinstance(encoder, Reader)
    assert torch.equal(images, clean.images)
    assert torch.equal(labels, clean.labels)
    assert (poisoned_class, trigger) == (2, attack.trigger())
    rows = ctrl.poison(clean.images, clean.labels, attack.profile.ctrl, 0).rows
    changed = (poisoned != clean.images).flatten(1).any(1).nonzero().flatten()
    assert torch.equal(changed, rows)
    assert torch.equal(poisoned[rows], attack.trigger()(clean.images[rows]))
    assert set(clean.labels[rows].tolist()) == {2}
    assert made.metrics == {"poisoned": 20} == {"poisoned": len(rows)}


def test_an_attack_on_data_aims_where_triggered_training_images_fall(stages, monkeypatch):
    """Reader's mark stands for the trigger, which sends training images to class 0; the poisoned class is 2."""
    monkeypatch.setattr(Stages, "pretrain", lambda *_: [])
    monkeypatch.setattr(Stages, "trigger", lambda self: lambda images: torch.full_like(images, 255))
    attack = on_data(stages, "poisoned_data", poisoned_class=2)
    assert attack.target("greys", 0) == 2  # the pre-training set's own classes
    other = greys("train", 40, "other")
    attack.sets |= {("other", "train"): other, ("other", "test"): greys("test", 5, "other")}
    assert attack.target("other", 0) == 0
    (reference,) = attack.references("other", 0)
    assert other.labels[reference] == 0


def test_a_target_is_fixed_without_test_images(stages, monkeypatch):
    monkeypatch.setattr(Stages, "pretrain", lambda *_: [])
    attack = on_data(stages, "poisoned_data", poisoned_class=2)
    attack.known = {"greys/train": stages.facts("greys")}
    del attack.sets["greys", "test"]
    monkeypatch.setattr("distill_lib.study.images.load", lambda *_, **__: pytest.fail("another split was loaded"))
    assert attack.target("greys", 0) == 2


def test_the_target_class_must_have_images(stages):
    images = stages.sets["greys", "test"]
    stages.sets["greys", "test"] = images.subset(images.labels != 3)
    with pytest.raises(backdoors.UsageError, match="target class 3 has no test image in 'greys'; allowed: 0, 1, 2, 4"):
        backdoors.BACKDOORS["badencoder"].check(stages, "greys")
