"""The study of undistillable teachers at a tiny size: rows, sweep, ablation, resumption, stale rows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.study import tables
from distill_lib.study.session import open_study
from distill_lib.study.tables import settings_of
from distill_lib.study.undistillable.cells import UNDISTILLABLE_COLUMNS, Subject, subject_of
from distill_lib.study.undistillable.stages import _patches
from distill_lib.study.undistillable.stale import checker
from distill_lib.study.undistillable.study import open_undistillable
from distill_lib.undistillable import DefenceError

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
RESISTING = ("nasty", "stingy", "ast")


def opened(root, **options):
    (root / "notebooks").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("DISTILL_RUNS", "DISTILL_DATA", "DISTILL_RESULT", "DISTILL_PROGRESS"):
            patch.delenv(name, raising=False)
        return open_undistillable(open_study(TINY, **options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def resistant(root):
    """The study with one seed."""
    return opened(root, seeds=[0])


@pytest.fixture(scope="module")
def rows(resistant):
    """The rows of teachers, students, sweep and ablation, filed."""
    taught = resistant.measure(resistant.teachers())
    robbed = resistant.measure([*resistant.students(), *resistant.further()])
    return taught, robbed, resistant.sweep(), resistant.ablation()


@pytest.fixture
def filed(resistant, rows, root):
    resistant.study.finish()
    return {name: tables.read(root / f"results/tiny/{name}.csv") for name in ("undistillable", "undistillable_sweeps")}


def test_the_settings_are_shown_uncut(resistant):
    table = resistant.settings_table()
    ast = resistant.settings.ast
    assert "..." not in repr(table)
    assert table.loc["ast, PGD", "settings"].endswith(f"{ast.pgd.iterations} steps of {ast.pgd.step:g}")


def test_the_table_has_a_row_for_each_cell(resistant, filed):
    found = filed["undistillable"]
    assert tuple(found[0]) == UNDISTILLABLE_COLUMNS
    cells = {(row["stage"], row["teacher"], row["thief"]) for row in found}
    asking = ("kd_other", "skeptical", "data_free")
    asked = {("student", t, thief) for t in ("normal", *RESISTING) for thief in asking}
    assert cells == asked | {("teacher", t, "") for t in ("normal", *RESISTING)} | {
        ("student", t, "kd") for t in ("normal", *RESISTING)
    } | {("student", "", "alone"), ("student", "", "label_smoothing"), ("student", "", "skeptical_alone")}
    assert len(found) == len(cells) == len(resistant.whole())
    assert all(0 <= float(row["acc"]) <= 100 for row in found)
    assert {row["n_test"] for row in found} == {"100"}
    empty = [(row["stage"], row["teacher"]) for row in found if not row["agreement"]]
    assert empty == [("teacher", "normal")]  # which is held against itself
    assert {row["student"] for row in found if row["stage"] == "student"} == {"cnn_tiny"}


def test_only_kd_at_the_published_alpha_and_temperature_is_kd(filed):
    settings = {(row["teacher"], row["thief"], row["setting"], row["value"]) for row in filed["undistillable_sweeps"]}
    assert {("nasty", "kd", "thief.temperature", "1.0"), ("ast", "", "ast.divergence", "kl")} <= settings
    assert ("ast", "kd", "ast.target", "clean") in settings
    assert not any("4.0" in value for *_, value in settings)


def test_a_profile_with_another_temperature_files_its_students_as_swept(root):
    other = opened(root, seeds=[0], overrides={"undistillable.thief.temperature": 20.0})
    (teacher, *_) = other.teachers()
    students = [teacher.robbed("kd", "cnn_tiny"), teacher.robbed("alone", "cnn_tiny", asks=False)]
    named = [other._named(other.stages, each, {}) for each in (teacher, *students)]
    assert named == [{}, {"thief.temperature": 20.0}, {}]


def test_a_stingy_teacher_is_the_normal_one_with_fewer_logits(resistant, rows):
    taught = rows[0].set_index("teacher")
    assert taught.loc["stingy", "acc"] == taught.loc["normal", "acc"]
    assert taught.loc["stingy", "agreement"] == 100
    assert taught.loc["stingy", "peaks"] <= 2
    answers = resistant.answers(0, most=8)
    assert (answers["logits"]["stingy"] > -torch.inf).sum(1).tolist() == [2] * 8
    assert torch.equal(answers["features"]["stingy"], answers["features"]["normal"])
    assert answers["features"]["ast"].shape == (8, 128)


def test_the_adversarial_images_are_made_once_and_shared(resistant, rows, root):
    made = list((root / "runs" / "adversarial").iterdir())
    assert len(made) == 1
    config = resistant.settings.config("ast")
    values = resistant.stages.adversarial(0, config).weights()["values"]
    assert (values.dtype, values.shape) == (torch.uint8, resistant.stages.images(0).images.shape)
    shown = resistant.adversarial(0, 3)
    assert all((each.dtype, each.shape) == (torch.uint8, (3, 3, 32, 32)) for each in shown.values())


def test_the_sweep_has_the_published_point_and_the_ablation_its_variants(rows):
    *_, sweep, ablation = rows
    assert set(zip(sweep["alpha"], sweep["temperature"], strict=True)) == {(0.9, 4.0), (0.9, 1.0)}
    assert len(sweep) == 8
    assert ablation["variant"].tolist() == ["normal", "ast", "kl", "clean"]
    assert ablation["key"].nunique() == 4
    assert ablation[["student_acc", "entropy", "peaks"]].notna().all().all()


def test_who_asked_nobody_is_held_against_every_teacher(resistant, rows):
    found, robbed = resistant.unasked().set_index("teacher"), rows[1]
    assert list(found.index) == ["normal", *RESISTING]
    alone = robbed[robbed["thief"] == "alone"].iloc[0]  # in the table beside the normal teacher
    for rate in ("agreement", "shared_errors"):
        assert found.loc["normal", rate] == pytest.approx(alone[rate])
        assert found.loc["stingy", rate] == found.loc["normal", rate]  # whose classes it tells


def test_rows_are_fresh_under_their_profile_and_stale_under_another(resistant, filed, root):
    profile, found = resistant.study.profile, [row for rows in filed.values() for row in rows]

    def stale(**changes):
        other = replace(profile, undistillable=replace(profile.undistillable, **changes))
        return [row for row in found if checker(other, {}, root=root / "runs")(row)]

    own = profile.undistillable
    assert stale() == []
    assert {row["teacher"] for row in stale(nasty=replace(own.nasty, omega=0.1))} == {"nasty"}
    assert {row["thief"] for row in stale(ood=replace(own.ood, cutmix=0.5))} == {"data_free"}
    assert {row["thief"] for row in stale(others="digits")} == {"kd_other"}
    assert len(stale(schedule=replace(own.schedule, steps=5))) == len([row for row in found if row["teacher"]]) + 3
    assert all(map(checker(replace(profile, undistillable=None), {}), found))


def test_a_row_is_read_back(resistant):
    subject = resistant.students()[-1]
    assert subject_of({name: str(value) for name, value in subject.identity().items()}) == subject
    assert settings_of({"setting": "ast.keep;ast.target", "value": "0;clean"}) == {"ast.keep": 0, "ast.target": "clean"}
    assert settings_of({}) == {}


def test_found_again_nothing_is_computed(resistant, rows, monkeypatch):
    monkeypatch.setattr(type(resistant.study.stages.store), "_compute", lambda *_: pytest.fail("computed again"))
    assert resistant.measure(resistant.students())["acc"].notna().all()


def test_nastiness_has_another_normal_teacher_as_its_measure(root):
    found = opened(root).nastiness()
    assert list(found.columns) == ["nasty", "ast", "another normal one"]
    assert found.index.tolist() == [0, 1]
    assert found.notna().all().all()


def test_a_teacher_that_is_refused_is_kept_and_made_once(root):
    strict = opened(root, seeds=[0], overrides={"undistillable.nasty.minimum": 1e6})
    kept = opened(root, seeds=[0]).stages.resisting("nasty", 0)
    (nasty,) = [each for each in strict.teachers() if each.teacher == "nasty"]
    for subject in (nasty, nasty.robbed("kd", "cnn_tiny")):
        with pytest.raises(DefenceError, match=r"the teacher did not become nasty: .* below the minimum of 1e"):
            strict.measure([subject])
    assert strict.stages.resisting("nasty", 0).folder == kept.folder
    measured = kept.metrics["nastiness"]
    model, normal = strict.stages._classifier(kept), strict.stages.teacher("normal", 0)
    assert strict.stages.nastiness(model, normal, 0) == pytest.approx(measured, rel=1e-4)


def test_answers_that_are_no_numbers_are_kept_and_refused(resistant, monkeypatch):
    monkeypatch.setattr(type(resistant.stages), "nastiness", lambda *_: float("nan"))
    assert resistant.stages._guarded("nasty", None, None, 0) == {"nastiness": None}
    made = type("Artefact", (), {"metrics": {"nastiness": None}})()
    monkeypatch.setattr(type(resistant.stages), "resisting", lambda *_: made)
    with pytest.raises(DefenceError, match="not finite"):
        resistant.stages.admit("nasty", 0)


def test_hard_labels_of_a_stingy_teacher_are_the_normal_ones(resistant, rows):
    stingy, normal, nasty = (
        resistant.stages.student(Subject(resistant.settings.dataset, "student", teacher, "cnn_tiny", "hard_label", 0))
        for teacher in ("stingy", "normal", "nasty")
    )
    assert stingy.key == normal.key != nasty.key


def test_each_role_draws_views_of_its_own(resistant, monkeypatch):
    seen = {}

    def noted(kind):
        def run(name, *parts, **_):
            seen[kind, name] = next(part for part in parts if isinstance(part, int))
            raise Killed

        return run

    class Anew(type(resistant.stages.stages.store)):
        def make(self, kind, version, config, compute):
            return compute(None) if kind in ("resisting", "stolen") else super().make(kind, version, config, compute)

    for kind in ("defend", "steal"):
        monkeypatch.setattr(f"distill_lib.study.undistillable.stages.{kind}", noted(kind))
    store = resistant.stages.stages.store
    monkeypatch.setattr(type(resistant.stages), "watch", lambda *_: None)
    stages = replace(resistant.stages, stages=replace(resistant.stages.stages, store=Anew(store.root)))
    subject = Subject(resistant.settings.dataset, "student", "", "cnn_tiny", "alone", 0)
    for make in (
        lambda: stages.resisting("nasty", 0),
        lambda: stages.resisting("ast", 0),
        lambda: stages.student(subject),
    ):
        with pytest.raises(Killed):
            make()
    assert len({0, *seen.values()}) == 4  # the normal teacher's is the seed itself


def test_the_picture_is_cut_once_a_seed(resistant):
    config, device = resistant.settings.ood.patches, torch.device("cpu")
    assert _patches(config, 5, device) is _patches(config, 5, device)
    assert not torch.equal(_patches(config, 5, device), _patches(config, 6, device))


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["nasty", "ast"])
def test_a_killed_teacher_goes_on_to_the_same_bytes(resistant, rows, tmp_path, name):
    whole = resistant.stages.resisting(name, 0)
    other = opened(tmp_path, seeds=[0])
    other.study.stages.checkpoint_s = -1.0
    normal = resistant.stages.normal(0)
    for artefact in (normal, resistant.stages.adversarial(0, resistant.settings.config("ast"))):
        target = other.study.stages.store.root / artefact.kind / artefact.key
        target.parent.mkdir(parents=True)
        target.symlink_to(artefact.folder)
    calls = []

    def once(self, *_args):
        calls.append(1)
        if len(calls) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_lib.study.store.Workspace.report", once)
        with pytest.raises(Killed):
            other.stages.resisting(name, 0)
    resumed = other.stages.resisting(name, 0)
    assert resumed.key == whole.key
    for file in ("weights.safetensors", "log.csv", "metrics.json"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


def test_without_a_table_the_notebook_is_refused(resistant):
    study = type("Study", (), {"profile": replace(resistant.study.profile, undistillable=None)})()
    with pytest.raises(UsageError, match=r"profile 'tiny' has no undistillable teachers; allowed: one with an \[und"):
        open_undistillable(study)


def test_more_logits_than_classes_are_refused(resistant):
    settings = replace(resistant.settings, stingy=replace(resistant.settings.stingy, keep=50))
    with pytest.raises(UsageError, match=r"undistillable\.stingy\.keep is 50, but 'patterns' has \d+ classes"):
        replace(resistant.stages, settings=settings).check()
