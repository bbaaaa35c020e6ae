"""Who teaches whom in a distillation, on which images, from which seed."""

from pathlib import Path

import pytest
import torch

from distill_lib.study import workshop
from distill_lib.study.cells import Cell
from distill_lib.study.config.load import load_profile
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workshop import FRESH_STUDENT
from distill_lib.vision.encoders import STAGES
from tests.study.greys import greys

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")
SEED = 3
ATTACKED = Cell("builtin", "badencoder", "patterns", 0, "attacked", "none", "", "", "", SEED)
# What was trained -> the seed of the random weights that stand for it.
STAND_IN = {"pretrained": 11, "attacked": 12, "repaired": 13, "untrained": 14, "fine-pruned": 15}


class Distilling:
    """A store whose artefacts are named by kind, and that computes distillations alone."""

    root = Path("nowhere")

    def make(self, kind, version, config, compute):
        if kind == "distilled":
            compute(Workspace(kind, Path("nowhere"), Path("nowhere"), None))
        name = "fine-pruned" if "fine_pruning" in config else kind
        return Artefact(kind, f"{name} of {config.get('start', '')}", Path("nowhere"))


@pytest.fixture
def given(monkeypatch):
    """Gives what `distil` is handed for a cell, the weights as they were then."""
    seen = {}

    def distil(teacher, student, images, config, seed, watch):
        weights = [{name: value.clone() for name, value in each.state_dict().items()} for each in (teacher, student)]
        seen.update(teacher=weights[0], student=weights[1], images=images, config=config, seed=seed)
        return []

    def encoder(self, artefact):
        name, _, start = artefact.key.partition(" of ")
        return self.fresh(STAND_IN[name] + 10 * (start == "random"))  # from random weights: another than from any

    monkeypatch.setattr(workshop, "distil", distil)
    monkeypatch.setattr(Stages, "encoder", encoder)
    monkeypatch.setattr(Stages, "trained", staticmethod(lambda work, encoder, log, **metrics: (None, metrics)))

    def run(cell, **settings):
        profile = load_profile(TINY, {f"distillation.{name}": value for name, value in settings.items()})
        stages = Stages(profile, Distilling(), torch.device("cpu"), precision="float32")
        stages.sets = {("builtin", "train"): greys("train", 1_000, "builtin")}
        stages.sets |= {("patterns", split): greys(split, 40, "patterns") for split in ("train", "test")}
        stages.distilled(cell)
        return stages, seen

    return run


def same(weights, encoder):
    return all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ("poisoned", "copy", (12, 12)),
        ("finetuned", "random", (13, SEED + FRESH_STUDENT)),
        ("clean", "warmup", (11, 23)),
        ("scratch", "copy", (23, 12)),
        ("random", "random", (14, SEED + FRESH_STUDENT)),
        ("pruned", "warmup", (15, 23)),
    ],
)
def test_each_plays_its_part(given, teacher, student, expected):
    stages, seen = given(ATTACKED.distilled(teacher, student, "at"))
    assert same(seen["teacher"], stages.fresh(expected[0]))
    assert same(seen["student"], stages.fresh(expected[1]))
    assert torch.equal(seen["images"], stages.share(SEED))
    assert seen["seed"] == SEED + FRESH_STUDENT
    assert seen["config"].loss == "at"


def test_late_stages_of_a_copy_may_be_drawn_anew(given):
    stages, seen = given(ATTACKED.distilled("finetuned", "copy", "at"), fresh_stages=1)
    copied, drawn = stages.fresh(12).state_dict(), stages.fresh(SEED + FRESH_STUDENT).state_dict()
    for name, value in seen["student"].items():
        assert torch.equal(value, (drawn if name.startswith(STAGES[-1]) else copied)[name]), name


def test_statistics_are_renewed_at_the_end_where_it_is_asked_for(given, monkeypatch):
    renewed = []
    monkeypatch.setattr(workshop, "renew_statistics", lambda student, images, seed: renewed.append((images, seed)))
    given(ATTACKED.distilled("finetuned", "copy", "at"))
    assert not renewed
    stages, _ = given(ATTACKED.distilled("finetuned", "copy", "at"), bn_reset=True)
    ((images, seed),) = renewed
    assert torch.equal(images, stages.share(SEED))
    assert seed == SEED
