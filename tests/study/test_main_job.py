"""What is found out before anything starts: one sentence and exit code 2, not hours later in a notebook."""

from pathlib import Path

import pytest
import torch

from distill_lib import __main__ as main_module
from distill_lib.data import ImageSet
from distill_lib.errors import UsageError
from distill_lib.study import main_job, tables
from distill_lib.study.cells import DISTILLATION_COLUMNS
from distill_lib.study.jobs import expand

TINY = (Path(__file__).parents[1] / "profiles" / "tiny.toml").read_text()


@pytest.fixture(autouse=True)
def images(monkeypatch):
    """Grey images of classes 0 to 3, 2000 a set; `lacking` says which class a split of a set does not have."""
    lacking = {}

    def load(name, split, **where):
        labels = torch.arange(2_000) % 4
        labels[labels == lacking.get((name, split), -1)] = 1
        pixels = torch.full((2_000, 3, 32, 32), 128, dtype=torch.uint8)
        return ImageSet(name, split, pixels, labels, tuple("abcd"), "builtin")

    monkeypatch.setattr("distill_lib.study.images.load", load)
    return lacking


@pytest.fixture
def profile(tmp_path):
    """Writes the tiny profile with other text; gives its path."""

    def write(*changes, more=""):
        text = TINY.replace("share = 0.01", "share = 0.05").replace("[0.01, 0.02]", "[0.05, 0.1]")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "my.toml"
        path.write_text(text + more)
        return str(path)

    return write


SWEEP = """
[[sweeps]]
name = "doubtful"
axis = "x"
vary = { "%s" = [%s] }
cells = ["clean"]
attack = "%s"
"""


def test_what_else_was_loaded_is_in_no_fingerprint_and_the_defenders_source_is(profile):
    source = profile(more=SWEEP % ("defender.source", '"shapes", "shots"', "badencoder"))
    job = main_job.load(source)
    jobs = {each.notebook: each for each in expand(job)}
    before = main_job.fingerprint(job, jobs["01_attack"], None)
    main_job.naming(source, None, None).facts("mars")
    assert main_job.fingerprint(job, jobs["01_attack"], None) == before
    assert "shots/train" in main_job.fingerprint(job, jobs["06_robustness"], None)["images"]
    assert "shots/train" not in before["images"]


def test_a_profile_that_can_run_is_silent(profile):
    main_job.check(main_job.load(profile()), "cpu", None)


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ([("share = 0.05", "share = 0.005")], "", "defender.share 0.005 gives the defender 10 images of 'builtin'"),
        ([("[0.05, 0.1]", "[0.05, 0.004]")], "", "sweep 'share of clean images': defender.share 0.004 gives"),
        ([("share = 0.05", "share = 0.05\ncontaminated = 0.004")], "", "0.004 of the defender's 100 images"),
        ([("share = 0.05", "share = 0.05\ndisjoint = true")], "[ctrl]\nrate = 0.1", ""),
        ([("shadow = 128", "shadow = 1990")], SWEEP % ("defender.disjoint", "true", "badencoder"), "10 images"),
        ([("shadow = 128", "shadow = 0")], SWEEP % ("defender.disjoint", "true", "badencoder"), "holds all 2000"),
        ([("share = 0.05", 'share = 0.05\nsource = "shapes"\ndisjoint = true')], "", "exclude each other"),
        ([], "[ctrl]\npoisoned_class = 7", "class 7 to poison has no image; allowed: 0, 1, 2, 3"),
        ([], SWEEP % ("ctrl.rate", "0.01, 0.9", "ctrl"), "sweep 'doubtful': a poison rate of 0.9 asks for 1800 images"),
        ([], SWEEP % ("injection.trigger_size", "40", ""), "sweep 'doubtful': a trigger of 40 pixels"),
        ([("shapes = 0", "shapes = 4")], "", "target class 4 of 'shapes' does not exist"),
        ([("curve = 2", "curve = 2\ntarget = 7")], "", "datafree.target 7 has no training image in 'patterns'"),
        ([("curve = 2", "curve = 2\nclean = 0.001")], "", "a clean share of 0.001 gives 2 of the 2000 images"),
    ],
)
def test_what_cannot_run_is_said_at_once(profile, changes, more, words):
    path = profile(*changes, more=f"\n{more}")
    if not words:
        main_job.check(main_job.load(path), "cpu", None)
        return
    with pytest.raises(UsageError) as caught:
        main_job.check(main_job.load(path), "cpu", None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("split", "word"), [("train", "training"), ("test", "test")])
def test_a_target_class_without_images_is_said(profile, images, split, word):
    images["shapes", split] = 0
    with pytest.raises(UsageError, match=f"target class 0 has no {word} image in 'shapes'; allowed: 1, 2, 3"):
        main_job.check(main_job.load(profile()), "cpu", None)


POISONED = ("ctrl = {", 'poisoned_data = { downstream = ["patterns"] }\nctrl = {')


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ([("share = 0.05", "share = 0.005")], "", "allowed: 16 images or more"),
        ([("shapes = 0", "shapes = 4")], "", "target class 4 of 'shapes' does not exist"),
        (
            [POISONED],
            "[poisoned_data]\nrate = 0.0",
            "a poison rate of 0.0 is not allowed; it must be above 0",
        ),
        ([POISONED], "[poisoned_data]\nrate = 1.5", "a poison rate of 1.5 is not allowed"),
        ([], "[ctrl]\nrate = 0.0", "rate"),
        ([], "[ctrl]\nrate = 1.5", "rate"),
    ],
)
def test_it_is_one_sentence_and_exit_code_2(profile, capsys, changes, more, words):
    assert main_module.main(["run", "--profile", profile(*changes, more=f"\n{more}")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert words in said.err


def row(pretrain, downstream, seed=0, **more):
    cell = {"pretrain": pretrain, "attack": "badencoder", "downstream": downstream, "stage": "attacked", "seed": seed}
    return {**cell, "defence": "none", "target": 0, "acc": 50.0, "asr": 90.0, "placebo_asr": 1.0, **more}


def told(job, folder, rows):
    tables.merge(folder / "results" / "tiny" / "distillation.csv", rows, DISTILLATION_COLUMNS, folder / "runs")
    return main_job.headline(job, folder).splitlines()


def test_a_run_ends_with_a_block_a_set_over_the_seeds_that_each_of_its_lines_has(profile, tmp_path):
    job, tuned = main_job.load(profile()), {"stage": "defended", "defence": "finetune", "asr": 10.0}
    where = job.profile.pretrain
    said = told(job, tmp_path, [
        *(row(where, "shapes", seed, acc=50.0 + seed) for seed in (0, 1, 2)),
        *(row(where, "shapes", seed, acc=40.0 + 2 * seed, **tuned) for seed in (1, 2)),
        row(where, "patterns", 0), row(where, "digits", 0), row(where, "digits", 1, **tuned),
    ])  # fmt: skip
    assert [line.split() for line in said[1:-2]] == [
        ["badencoder,", "patterns", "ACC", "ASR", "placebo", "n"],
        ["attacked", "50.0", "90.0", "1.0", "1"],
        ["badencoder,", "shapes", "ACC", "ASR", "placebo", "n"],
        ["attacked", "51.5", "90.0", "1.0", "2"],
        ["fine-tuned", "43.0", "10.0", "1.0", "2"],
    ]  # nothing on digits: no seed has both of its lines


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([], "cifar10, stl10 (pre-training); cifar10, stl10, gtsrb, svhn (downstream)"),
        ([("cifar10", "gtsrb"), ("cifar10", "svhn", 100)], "stl10 (pre-training); cifar10, stl10, svhn (downstream)"),
        ([("cifar10", "gtsrb"), ("stl10", "svhn"), ("stl10", "cifar10")], "stl10 (downstream)"),
        ([("cifar10", "gtsrb"), ("stl10", "svhn"), ("stl10", "cifar10"), ("cifar10", "stl10")], None),
    ],
)
def test_a_run_says_which_of_the_papers_sets_it_lacks(profile, tmp_path, rows, missing):
    job = main_job.load(profile())
    said = [line for line in told(job, tmp_path, [row(*each) for each in rows]) if "paper" in line]
    assert said == ([f"of the paper's data sets not measured: {missing}"] if missing else [])
