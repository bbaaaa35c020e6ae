"""What notebooks call: opening, cells, rows."""

from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.session import open_study

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study in a folder of its own."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("DISTILL_RUNS", "DISTILL_DATA", "DISTILL_RESULT", "DISTILL_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    return open_study(TINY, attack="badencoder")


def test_parameters_replace_the_profile(study):
    other = open_study(TINY, attack="badencoder", downstream=["shapes"], seeds=[4, 5])
    assert [(cell.downstream, cell.seed) for cell in other.everywhere()] == [("shapes", 4), ("shapes", 5)]
    assert [cell.seed for cell in other.compared()] == [4]  # none of the profile's compared seeds: the first
    assert [(cell.downstream, cell.seed) for cell in study.everywhere()] == [("patterns", 0), ("shapes", 0)]


def test_the_recipe_changes_one_component_at_a_time(study):
    (cell,) = study.compared()
    (plain,) = study.recipe([cell])
    assert (plain.stage, plain.defence) == ("defended", "distillation")
    assert (plain.teacher, plain.student, plain.loss) == ("finetuned", "warmup", "at")
    (other,) = study.recipe([cell], teacher="poisoned")
    assert (other.teacher, other.student, other.loss) == ("poisoned", "warmup", "at")
    (finetuned,) = study.defence([plain], "finetune")
    assert (finetuned.defence, finetuned.teacher, finetuned.student, finetuned.loss) == ("finetune", "", "", "")


def test_every_attack_of_the_profile_is_there_unless_one_is_asked_for(study):
    assert {name: sets.downstream for name, sets in open_study(TINY).attacks().items()} == {
        "badencoder": ("patterns", "shapes"),
        "ctrl": ("shapes",),
    }
    alone = open_study(TINY, attack="ctrl")
    assert {name: sets.downstream for name, sets in alone.attacks().items()} == {"ctrl": ("shapes",)}
    assert alone.profile.sweeps == ()
    assert [sweep.name for sweep in study.profile.sweeps] == [
        "trigger size",
        "share of clean images",
        "state of the teacher",
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: open_study("nosuch"), "unknown profile 'nosuch'"),
        (lambda: open_study(TINY, attack="nosuch"), "unknown attack 'nosuch'; allowed: badencoder"),
        (lambda: open_study(TINY, device="gpu"), "unknown device 'gpu'"),
        (lambda: open_study(TINY, downstream=["mars"]).everywhere(), "downstream set 'mars'"),
        (lambda: open_study(TINY, pretrain="mars").stages.pretrained(0), "unknown data set 'mars'"),
        (lambda: open_study(TINY, overrides={"injection.trigger_size": 40}).trigger, "trigger of 40 pixels"),
    ],
)
def test_wrong_values_are_one_sentence(study, call, words):
    with pytest.raises(UsageError) as caught:
        call()
    assert words in str(caught.value)


def test_the_budget_table_spends_all_views_in_every_row(study):
    table = study.budget_table()
    assert (table.sum(axis=1) == study.profile.defender.views).all()
