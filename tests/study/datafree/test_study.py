"""The data-free study at a tiny size: rows, curves, made images, resumption, stale rows."""

from dataclasses import replace
from pathlib import Path

import joblib
import pandas
import pytest
import torch

from distill_lib.datafree.retrospection import RetrospectionConfig
from distill_lib.datafree.vaccine import VaccineConfig
from distill_lib.errors import UsageError
from distill_lib.study import tables
from distill_lib.study.datafree.cells import DATAFREE_COLUMNS, subject_of
from distill_lib.study.datafree.stages import vaccinated
from distill_lib.study.datafree.stale import checker
from distill_lib.study.datafree.study import open_datafree
from distill_lib.study.session import open_study

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")


def opened(root, **options):
    (root / "notebooks").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("DISTILL_RUNS", "DISTILL_DATA", "DISTILL_RESULT", "DISTILL_PROGRESS"):
            patch.delenv(name, raising=False)
        return open_datafree(open_study(TINY, **options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def without(root):
    """The study with one trigger and one seed."""
    study = opened(root, seeds=[0])
    study.settings = replace(study.settings, triggers=("badnet_grid",))
    study.stages.settings = study.settings
    return study


@pytest.fixture(scope="module")
def rows(without):
    """The rows of the teacher and every student, and the bridge's, filed."""
    taught = without.measure(without.teachers())
    without.measure([*without.students(), *without.defended()])
    return taught, without.bridge()


def test_the_table_has_a_row_for_each_cell(without, rows, root):
    without.study.finish()
    found = tables.read(root / "results" / "tiny" / "datafree.csv")
    assert tuple(found[0]) == DATAFREE_COLUMNS
    cells = {(row["stage"], row["method"], row["defence"]) for row in found}
    assert cells == {
        ("teacher", "", "none"), ("student", "clean_kd", "none"), ("student", "ood", "none"), ("student", "ood", "abd"),
        ("student", "zskt", "none"),
    }  # fmt: skip
    assert all(0 <= float(row[rate]) <= 100 for row in found for rate in ("acc", "asr", "asr_all", "target_rate"))
    assert {row["n_test"] for row in found} == {"100"}
    (other,) = tables.read(root / "results" / "tiny" / "datafree_sweeps.csv")
    assert (other["method"], other["setting"], other["value"]) == ("ood", "others", "shapes")
    assert len(without.whole()) == len(found)


def test_rows_are_fresh_under_their_profile_and_stale_under_another(without, rows, root):
    without.study.finish()
    profile = without.study.profile
    found = [row for name in ("datafree", "datafree_sweeps") for row in tables.read(root / f"results/tiny/{name}.csv")]
    assert not any(map(checker(profile, {}, root=root / "runs"), found))
    teacher = replace(profile.datafree, rate=0.2)
    assert all(map(checker(replace(profile, datafree=teacher), {}, root=root / "runs"), found))
    defence = replace(profile.datafree, vaccine=replace(profile.datafree.vaccine, alpha=3.0))
    stale = checker(replace(profile, datafree=defence), {}, root=root / "runs")
    assert {row["defence"] for row in found if stale(row)} == {"abd"}
    assert all(map(checker(replace(profile, datafree=None), {}), found))
    another = replace(profile.datafree, dataset="builtin")
    assert all(map(checker(replace(profile, datafree=another), {}, root=root / "runs"), found))


def test_the_bridge_runs_from_clean_data_to_a_generator(rows):
    _, bridge = rows
    assert bridge["data"].tolist() == [
        "clean data", "other people's data (shapes)", "one picture", "a generator (ZSKT)",
    ]  # fmt: skip
    assert bridge["key"].nunique() == 4


def test_curves_end_with_the_training_and_are_rates(without, rows):
    curves = without.curves(without.students())
    for _, curve in curves.groupby("method"):
        assert curve["step"].tolist() == [2, 4]
    assert curves["acc"].between(0, 100).all()


def test_a_refused_vaccine_is_seen(without, rows):
    """At this size none is accepted: `abd` is retrospection alone, and says so."""
    found = without.vaccines([*without.students(), *without.defended()])
    assert found["defence"].tolist() == ["abd"]
    assert found["vaccine"].tolist() == ["off"]
    assert without.stages.student(without.students()[0]).metrics.keys() == {"made"}
    assert without.vaccines(without.students()).empty


def test_without_a_test_nothing_was_accepted(without, rows, monkeypatch):
    lax = replace(without.settings, vaccine=replace(without.settings.vaccine, acceptance=False))
    monkeypatch.setattr(without, "settings", lax)
    assert without.vaccines(without.defended())["vaccine"].tolist() == ["untested"]


@pytest.mark.parametrize(("others", "judged"), [("shapes", "patterns"), ("patterns", "shapes")])
def test_the_encoders_bridge_is_not_judged_on_other_peoples_set(without, monkeypatch, others, judged):
    """Their images would be the nearest there, and clean ones the farther."""
    monkeypatch.setattr(without, "settings", replace(without.settings, others=others))
    assert {cell.downstream for cell, _ in without.encoder_cells()} == {judged}


def test_what_is_off_the_published_defence_stands_in_the_set_up(without, monkeypatch):
    assert "vaccine" not in replace_defence(without, monkeypatch, VaccineConfig(), RetrospectionConfig())
    said = replace_defence(without, monkeypatch, VaccineConfig(weight=0.05, start=0.0), RetrospectionConfig(few=16))
    assert said.endswith("; vaccine with weight 0.05, start 0.0; retrospection with few 16")


def test_schedules_are_said_in_images_too(without, monkeypatch):
    """Steps and epochs of other batches cannot be compared."""
    ood = replace(without.settings.ood, schedule=replace(without.settings.ood.schedule, steps=5_000, batch=128))
    monkeypatch.setattr(without, "settings", replace(without.settings, ood=replace(ood, fixed=True)))
    assert "ood 5,000 steps of 128, 0.64 million images, mixed once" in without.setup()


def replace_defence(without, monkeypatch, vaccine, retrospection):
    monkeypatch.setattr(without, "settings", replace(without.settings, vaccine=vaccine, retrospection=retrospection))
    return without.setup()


def test_an_accepted_vaccine_is_counted_from_one():
    assert vaccinated([{"kl": 1.0}]) == vaccinated([]) == {}
    assert vaccinated([{"kl": 1.0, "vaccine": 2.0, "suspicious": 0.25}]) == {"vaccine": 3, "suspicious": 25.0}
    assert vaccinated([{"vaccine": -1.0}]) == {"vaccine": "off", "suspicious": None}


def test_a_generators_images_are_kept(without, rows):
    made = without.made(without.teachers()[0].distilled("zskt"))
    assert list(made) == [0, 1, 2]
    assert all((each.dtype, each.shape) == (torch.uint8, (8, 3, 32, 32)) for each in made.values())


def test_the_vaccines_scores_are_of_images_outside_the_target_class(without, rows):
    found = without.scores(without.teachers()[0])
    labels = without.stages.test_images(0, 1000).labels
    assert len(found["clean"]) == len(found["triggered"]) == int((labels != 0).sum())
    assert 0 <= found["auc"] <= 1
    assert 0 <= found["auc_usual"] <= 1


def test_found_again_nothing_is_computed(without, rows, monkeypatch):
    monkeypatch.setattr(type(without.study.stages.store), "_compute", lambda *_: pytest.fail("computed again"))
    assert without.measure(without.defended())["acc"].notna().all()


def test_each_network_is_one_task_and_done_once_it_is_measured(without, rows):
    networks = [*without.students(), *without.defended()]
    assert len(set(networks)) < len(networks)  # a student without a defence is of both
    tasks = without._tasks((each, "") for each in networks)
    assert len(tasks) == len(set(networks))
    assert all(task.done(without.study.stages) for task in tasks)
    other, elsewhere = without._tasks([(replace(networks[0], seed=1), ""), (networks[1], "digits")])
    assert not other.done(without.study.stages)
    assert not elsewhere.done(without.study.stages)


@pytest.mark.slow
def test_two_at_once_make_what_one_makes_before_anything_is_shown(tmp_path, monkeypatch):
    found, before = {}, torch.get_num_threads()
    for count in (1, 2):
        monkeypatch.setenv("DISTILL_WORKERS", str(count))
        (tmp_path / str(count)).mkdir()
        without = opened(tmp_path / str(count), seeds=[0], pretrain="patterns")
        without.settings = without.stages.settings = replace(without.settings, triggers=("badnet_grid",))
        torch.set_num_threads(max(1, joblib.cpu_count() // 2))  # threads round sums otherwise
        without.prepare()
        log, shown = tmp_path / str(count) / "runs" / "makes.log", [*without.teachers(), *without.defended()]
        prepared = log.read_text().splitlines() if count > 1 else []
        found[count] = [without.measure(shown), without.bridge(), without.encoder_bridge()]
    torch.set_num_threads(before)
    assert prepared == log.read_text().splitlines()
    assert len({line.split()[4] for line in prepared}) > 1
    assert len({tuple(line.split()[1:3]) for line in prepared}) == len(prepared)  # nothing twice
    for one, two in zip(*found.values(), strict=True):
        pandas.testing.assert_frame_equal(one, two)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["ood", "zskt"])
def test_a_killed_student_goes_on_to_the_same_bytes(without, rows, tmp_path, method):
    subject = without.teachers()[0].distilled(method)
    whole = without.stages.student(subject)
    other = opened(tmp_path, seeds=[0])
    other.study.stages.checkpoint_s = -1.0
    calls = []

    def once(self, *_args):
        calls.append(1)
        if len(calls) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_lib.study.store.Workspace.report", once)
        teacher = without.stages.classifier(subject.attack, subject.seed)
        target = other.study.stages.store.root / teacher.kind / teacher.key
        target.parent.mkdir(parents=True)
        target.symlink_to(teacher.folder)
        with pytest.raises(Killed):
            other.stages.student(subject)
    resumed = other.stages.student(subject)
    assert resumed.key == whole.key
    for name in ("weights.safetensors", "log.csv", "curve.csv", "metrics.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_subject_is_read_back_from_its_row(without):
    subject = without.teachers()[0].distilled("ood", "abd")
    assert subject_of({name: str(value) for name, value in subject.identity().items()}) == subject


def test_without_a_table_the_notebook_is_refused(without):
    study = without.study
    study_without = type("Study", (), {"profile": replace(study.profile, datafree=None)})()
    with pytest.raises(UsageError, match=r"profile 'tiny' has no data-free study; allowed: one with a \[datafree\]"):
        open_datafree(study_without)


def test_the_picture_is_an_image_set_of_the_first_study(without):
    found = without.study.stages.images("picture")
    assert (len(found), found.classes, found.source) == (64, (), "builtin")
    assert int(found.labels.max()) == -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": 60}, "datafree.target 60 has no training image in 'patterns'; allowed: 0, 1"),
        ({"rate": 0.95}, "a poison rate of 0.95 asks for"),
        ({"clean": 0.001}, "a clean share of 0.001 gives 2"),
    ],
)
def test_what_the_images_cannot_hold_is_said(without, change, words):
    stages = replace(without.stages, settings=replace(without.settings, **change))
    with pytest.raises(UsageError) as caught:
        stages.check()
    assert words in str(caught.value)
