"""What notebooks call: opening, cells, rows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.errors import UsageError
from distill_lib.study.backdoors import BACKDOORS
from distill_lib.study.cells import DISTILLATION_COLUMNS
from distill_lib.study.session import COLUMNS, Study, open_study

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")


def test_parameters_replace_the_profile(study):
    other = open_study(TINY, attack="badencoder", downstream=["shapes"], seeds=[4, 5])
    assert [(cell.downstream, cell.seed) for cell in other.everywhere()] == [("shapes", 4), ("shapes", 5)]
    assert [cell.seed for cell in other.compared()] == [4]  # seeds that the profile does not have: the first
    assert [(cell.downstream, cell.seed) for cell in study.everywhere()] == [("patterns", 0), ("shapes", 0)]


SEEDS = {
    "seeds": [0, 1, 2, 3, 4, 5],
    "compared_seeds": [0, 1],
    "swept_seeds": [1, 2],
    "further.ctrl": {"downstream": ["shapes"], "compared": "shapes", "seeds": [0, 2], "compared_seeds": []},
}


@pytest.mark.parametrize(
    ("asked", "compared", "swept", "ctrl", "ctrl_compared"),
    [
        ([], [0, 1], [1, 2], [0, 2], [0]),
        ([0, 1, 2, 3, 4, 5], [0, 1], [1, 2], [0, 2], [0]),  # as the runner says it
        ([1, 2], [1], [1, 2], [2], [0]),
        ([3, 4, 5], [0, 1], [1, 2], [0, 2], [0]),  # a piece compares no other seeds than the whole
        ([5, 6], [0, 1], [1, 2], [6], [0]),
        ([100, 101], [100], [100], [100, 101], [100]),  # all are new
    ],
)
def test_seeds_that_are_asked_for_are_a_piece_of_the_profile(
    study, monkeypatch, asked, compared, swept, ctrl, ctrl_compared
):
    for name in ("badencoder", "ctrl"):  # no image is looked at, no encoder made
        monkeypatch.setitem(BACKDOORS, name, replace(BACKDOORS[name], target=lambda *where: 0))
    found = open_study(TINY, seeds=asked, overrides=SEEDS)
    cells = {"badencoder": [], "ctrl": []}
    for cell in found.compared():
        cells[cell.attack].append(cell.seed)
    main = [cell.seed for cell in found.everywhere() if cell.downstream == "patterns"]
    assert main == (asked or SEEDS["seeds"])
    assert cells["badencoder"] == compared
    assert found.profile.swept_seeds == tuple(swept)
    assert found.attacks()["ctrl"].seeds == tuple(ctrl)
    assert found.attacks()["ctrl"].compared_seeds == tuple(ctrl_compared)


def test_an_attack_without_seeds_of_its_own_has_the_profiles(study):
    attacks = open_study(TINY, overrides={"seeds": [0, 1], "compared_seeds": [1]}).attacks()
    assert {(sets.seeds, sets.compared_seeds) for sets in attacks.values()} == {((0, 1), (1,))}


def test_an_attack_alone_keeps_its_seeds(study):
    alone = open_study(TINY, attack="ctrl", overrides=SEEDS)
    assert (alone.profile.seeds, alone.profile.compared_seeds) == ((0, 2), (0,))


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


def test_the_images_that_an_attack_poisons_are_shown_before_and_after(study):
    stages = open_study(TINY, overrides={"ctrl.rate": 0.1}).stages
    images = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    stages.sets["builtin", "train"] = ImageSet("builtin", "train", images, labels, ("a", "b"), "builtin")
    study = Study(stages, study.root, None, False)
    assert study.poisoned("badencoder", 0) == {}
    shown = study.poisoned("ctrl", 0, count=3)
    assert shown["before"].shape == shown["after"].shape == (3, 3, 32, 32)
    assert (shown["before"] == 128).all()
    assert torch.equal(shown["after"], study.under("ctrl").trigger()(shown["before"]))


def test_the_tuning_table_is_the_profiles_own_or_empty(study):
    assert study.tuning().empty
    folder = study.root / "results" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tuning.csv").write_text("loss,weight,seed,acc,asr,n_test\nkd,1.0,100,30.0,10.0,400\n")
    assert study.tuning()["acc"].tolist() == [30.0]


def test_a_table_of_other_settings_holds_their_rows_alone(study):
    folder = study.root / "results" / "tiny"
    folder.mkdir(parents=True)
    cell = "builtin,badencoder,patterns,0,attacked,none,,,"
    rates = "100,50.0,9.0,9.0,9.0,9.0,9.0,0.5,k"
    (folder / "distillation.csv").write_text(f"{','.join(DISTILLATION_COLUMNS)}\n{cell},0,{rates}\n")
    header = f"study,{','.join(DISTILLATION_COLUMNS)},setting,value\n"
    lines = [f"distillation,{cell},{seed},{rates},injection.trigger_size,{seed}\n" for seed in (6, 7)]
    (folder / "sweeps.csv").write_text(header + "".join(lines))
    assert study.table().empty  # made-up keys: stale rows are of other settings too
    study._checkers = dict.fromkeys(COLUMNS, lambda row: False)
    assert study.table()["seed"].tolist() == [0]
    assert study.table({"injection.trigger_size": 10})["seed"].tolist() == [0]  # the profile's own
    assert study.table({"injection.trigger_size": 6})["seed"].tolist() == [6]
    assert study.table({"injection.trigger_size": 8}).empty
