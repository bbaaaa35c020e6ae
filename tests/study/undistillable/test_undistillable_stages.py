"""What a network of the undistillable study is measured by, and against which other network."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from distill_lib.study.config.load import load_profile
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.study.store import Artefact
from distill_lib.study.undistillable.cells import Subject
from distill_lib.study.undistillable.stages import UndistillableStages
from tests.study.greys import CLASSES, STEP, greys

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
# Of five images, one a class from 0 to 4: the robbed teacher is right on three, its student on two.
ANSWERS = {"normal": [0, 1, 2, 3, 4], "ast": [0, 1, 2, 4, 3], "student": [0, 2, 2, 4, 1]}


class Answers(nn.Module):
    """A network that answers as a list says, by the grey of the image."""

    def __init__(self, answers):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("answers", torch.tensor(answers + [0] * (CLASSES - len(answers))))

    def forward(self, images):
        return one_hot(self.answers[(images[:, 0, 0, 0] * 255 / STEP).round().long()], CLASSES).float()


class Computing(Naming):
    """Names everything, and computes what is judged."""

    def make(self, kind, version, config, compute):
        made = super().make(kind, version, config, compute)
        if kind != "judged":
            return made
        judged = Artefact(kind, made.key, Path("nowhere"))
        judged.__dict__["metrics"] = compute(None)[1]  # read from its folder else
        return judged


@pytest.fixture
def judge(monkeypatch):
    profile = load_profile(TINY)
    inner = Stages(profile, Computing("nowhere"), torch.device("cpu"), precision="float32")
    held = greys("test", 1, "patterns")
    inner.sets = {("patterns", "train"): greys("train", 4, "patterns"), ("patterns", "test"): held.subset(range(5))}
    network = lambda self, subject: Answers(ANSWERS["student" if subject.thief else subject.teacher])  # noqa: E731
    monkeypatch.setattr(UndistillableStages, "network", network)
    stages = UndistillableStages(inner, profile.undistillable)
    return lambda *subject: stages.judged(Subject("patterns", *subject, 0)).metrics


def test_a_student_is_held_against_the_teacher_that_it_robbed(judge):
    found = judge("student", "ast", "cnn_tiny", "kd")
    assert found["n_test"] == 5
    assert found["acc"] == pytest.approx(40)  # right on 0 and 2
    assert found["agreement"] == pytest.approx(60)  # on 0 and 2 and, wrongly, on 3
    assert found["shared_errors"] == pytest.approx(50)  # of 3 and 4, which the teacher gets wrong


def test_one_that_asked_nobody_is_held_against_the_normal_teacher(judge):
    found = judge("student", "", "cnn_tiny", "alone")
    assert found["agreement"] == pytest.approx(40)
    assert found["shared_errors"] is None  # the normal teacher makes none


def test_a_teacher_that_resists_is_held_against_the_normal_one_which_stands_alone(judge):
    found = judge("teacher", "ast", "", "")
    assert (found["acc"], found["agreement"]) == (pytest.approx(60), pytest.approx(60))
    normal = judge("teacher", "normal", "", "")
    assert normal["acc"] == 100
    assert normal["agreement"] is normal["shared_errors"] is None
    assert normal["entropy"] > 0
