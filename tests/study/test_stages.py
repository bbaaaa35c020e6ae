"""The stages: keys, budgets, and what each cell's encoder is made from."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.study import components
from distill_lib.study.cells import Cell
from distill_lib.study.components import DEFENCES, STUDENTS, TEACHERS
from distill_lib.study.config.load import load_profile
from distill_lib.study.images import Facts
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming, checker, of_another_probe
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workshop import FRESH_REPAIR, FRESH_TEACHER
from tests.study.greys import CLASSES, Reader, blue_corner, greys, white_corner

TINY = str(Path(__file__).parents[1] / "profiles" / "tiny.toml")
KNOWN = {
    f"{name}/{split}": Facts("archive", f"{name}-{split}", count, 10)
    for name, count in (("builtin", 10_000), ("patterns", 2_000), ("shapes", 2_000))
    for split in ("train", "test")
}
ATTACKED = Cell("builtin", "badencoder", "patterns", 0, "attacked", "none", "", "", "", 0)


def naming(overrides=None, **changes):
    """Stages that name results and compute nothing, without any image."""
    profile = replace(load_profile(TINY, overrides), **changes)
    return Stages(profile, Naming("nowhere"), torch.device("cpu"), known=dict(KNOWN), precision="float32")


def schedule(stages, cell):
    """The steps and batch of a cell's distillation, as the key sees them."""
    seen = {}

    def make(kind, version, config, compute):
        seen[kind] = config
        return Artefact(kind, kind, Path(kind))

    stages.store.make = make
    stages.distilled(cell)
    return seen["distilled"]["distil"]["schedule"]


def test_keys_need_no_images_and_no_computation():
    stages = naming()
    keys = {stages.measured(cell).key for cell in (ATTACKED, replace(ATTACKED, stage="clean"))}
    keys |= {stages.measured(ATTACKED.defended(name)).key for name in DEFENCES}
    keys |= {stages.measured(ATTACKED.distilled(t, s, "at")).key for t in TEACHERS for s in STUDENTS}
    assert len(keys) == 2 + len(DEFENCES) + len(TEACHERS) * len(STUDENTS)


@pytest.mark.parametrize(
    "override",
    [
        {"encoder.width": 8},
        {"pretraining.epochs": 2},
        {"pretraining.optimisation.lr": 1e-3},
        {"injection.shadow": 64},
        {"injection.trigger_size": 5},
        {"evaluation.test": 50},
        {"evaluation.head_epochs": 2},
        {"targets": {"patterns": 1, "shapes": 0}},
    ],
)
def test_every_setting_that_can_change_a_result_changes_its_key(override):
    assert naming().measured(ATTACKED).key != naming(override).measured(ATTACKED).key


def test_what_cannot_change_a_result_leaves_its_key():
    key = naming().measured(ATTACKED).key
    assert naming(summary="other", minutes={"01_attack": 3.0}, device="auto").measured(ATTACKED).key == key
    assert naming({"defender.views": 4000}).measured(ATTACKED).key == key


RECIPE = ATTACKED.distilled("finetuned", "copy", "at")


@pytest.mark.parametrize(
    "override",
    [
        {"defender.crop": 0.1},
        {"defender.cutout": 0.3},
        {"distillation.cosine_weight": 1.0},
        {"distillation.fresh_stages": 1},
        {"distillation.bn_reset": True},
    ],
)
def test_what_a_recipe_may_change_is_in_its_key(override):
    assert naming(override).distilled(RECIPE).key != naming().distilled(RECIPE).key
    finetuned = ATTACKED.defended("finetune")
    of_views = next(iter(override)).startswith("defender")
    assert (naming(override).encoder_of(finetuned).key != naming().encoder_of(finetuned).key) == of_views


def test_settings_that_are_off_are_not_in_the_key():
    """Results made before they existed keep their names."""
    seen = {}

    def make(kind, version, config, compute):
        seen[kind] = config
        return Artefact(kind, kind, Path(kind))

    stages = naming()
    stages.store.make = make
    stages.distilled(RECIPE)
    assert {"mixup", "cosine_weight", "cutout", "fresh_stages", "bn_reset"} & set(str(seen).split("'")) == set()


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("distillation.fresh_stages", 5, "0 to 4"),
        ("distillation.cosine_weight", -1.0, "0 or more"),
        ("defender.crop", 0.0, "above 0, at most 1"),
        ("defender.cutout", 1.0, "below 1"),
    ],
)
def test_impossible_recipes_are_refused(key, value, allowed):
    with pytest.raises(UsageError, match=f"{key}.*{value}.*{allowed}"):
        naming({key: value})


def test_images_and_precision_are_in_the_key():
    stages = naming()
    other = naming()
    other.known["patterns/test"] = Facts("archive", "other pixels", 2_000, 10)
    assert stages.measured(ATTACKED).key != other.measured(ATTACKED).key
    half = naming()
    half.precision = "bf16"
    assert stages.pretrained(0).key != half.pretrained(0).key


def test_every_distillation_spends_what_is_left_of_the_same_views():
    budget = naming().profile.defender
    for teacher, student, share in (
        ("finetuned", "warmup", 1 - budget.teacher - budget.warmup),
        ("poisoned", "warmup", 1 - budget.warmup),
        ("finetuned", "random", 1 - budget.teacher),
        ("poisoned", "random", 1.0),
    ):
        found = schedule(naming(), ATTACKED.distilled(teacher, student, "at"))
        views = 2 * found["batch"] * found["steps"]
        assert abs(views - share * budget.views) <= 2 * found["batch"]


def test_without_its_own_objective_a_student_sees_one_view_and_takes_twice_the_steps():
    two = schedule(naming(), ATTACKED.distilled("poisoned", "random", "cosine"))
    one = schedule(naming({"distillation.nt_xent_weight": 0.0}), ATTACKED.distilled("poisoned", "random", "cosine"))
    assert one["steps"] == 2 * two["steps"]


def test_wrong_names_and_targets_are_refused():
    with pytest.raises(UsageError, match="unknown teacher 'nosuch'; allowed: poisoned, finetuned"):
        naming().distilled(ATTACKED.distilled("nosuch", "warmup", "at"))
    with pytest.raises(UsageError, match="unknown loss 'nosuch'"):
        naming().distilled(ATTACKED.distilled("finetuned", "warmup", "nosuch"))
    with pytest.raises(UsageError, match="unknown defence 'nosuch'"):
        naming().encoder_of(ATTACKED.defended("nosuch"))
    with pytest.raises(UsageError, match="target class 10 of 'patterns' does not exist; allowed: 0 to 9"):
        naming({"targets": {"patterns": 10, "shapes": 0}}).target("patterns", 0)
    with pytest.raises(UsageError, match="unknown downstream set 'mars'"):
        naming().target("mars", 0)


def test_a_row_is_stale_when_the_settings_would_give_another():
    stages = naming()
    row = {name: str(value) for name, value in asdict(ATTACKED).items()} | {"key": stages.measured(ATTACKED).key}
    assert not checker(stages.profile, dict(KNOWN))(row)
    assert checker(stages.profile, dict(KNOWN))({**row, "key": "0" * 16})
    assert checker(stages.profile, dict(KNOWN))({**row, "target": "3"})
    unknown = {"loss": "nosuch", "defence": "distillation", "stage": "defended"}
    assert checker(stages.profile, dict(KNOWN))({**row, **unknown})
    changed = load_profile(TINY, {"pretraining.epochs": 2})
    assert checker(changed, dict(KNOWN))(row)
    random = stages.measured(ATTACKED, encoder=stages.untrained(0)).key
    assert not checker(stages.profile, dict(KNOWN))({**row, "key": random, "setting": "encoder", "value": "random"})


@pytest.mark.parametrize(
    ("cell", "fresh"),
    [
        (ATTACKED.defended("finetune"), FRESH_REPAIR),
        (ATTACKED.defended("clean_share"), FRESH_REPAIR),
        (ATTACKED.distilled("scratch", "copy", "at"), FRESH_TEACHER),
    ],
)
def test_a_training_draws_weights_order_and_views_from_one_seed(monkeypatch, cell, fresh):
    drawn = []
    monkeypatch.setattr(components, "finetune", lambda *args: drawn.append(args[3]) or [])
    monkeypatch.setattr(components, "clean_share", lambda *args: drawn.append(args[3]) or [])
    monkeypatch.setattr(Stages, "share", lambda self, seed: torch.zeros(16, 3, 32, 32, dtype=torch.uint8))
    monkeypatch.setattr(Stages, "encoder", lambda self, artefact: self.fresh(0))
    weights = []
    build = Stages.fresh
    monkeypatch.setattr(Stages, "fresh", lambda self, seed: weights.append(seed) or build(self, seed))
    stages = naming()
    work = Workspace("repaired", Path("nowhere"), Path("nowhere"), None)
    monkeypatch.setattr(Stages, "trained", staticmethod(lambda *args, **metrics: None))
    made = Naming.make

    def compute(self, kind, version, config, run):
        if kind == "repaired":
            run(work)
            assert config.get("fresh") == (fresh if fresh != FRESH_REPAIR else None)
        return made(self, kind, version, config, run)

    monkeypatch.setattr(Naming, "make", compute)
    stages.encoder_of(cell)
    assert drawn == [fresh]
    assert weights == ([fresh] if cell.defence != "finetune" else [0])


def test_rows_of_another_attack_than_the_only_one_of_a_run_are_fresh():
    stages = naming()
    row = {name: str(value) for name, value in asdict(ATTACKED).items()} | {"key": stages.measured(ATTACKED).key}
    profile = replace(stages.profile, attack="ctrl", downstream=("builtin",), compared="builtin", further={})
    assert not checker(profile, dict(KNOWN))(row)
    assert checker(profile, dict(KNOWN))({**row, "key": "0" * 16})


def test_rows_of_a_probe_that_is_not_the_primary_one_any_more_are_stale():
    row = {name: str(value) for name, value in asdict(ATTACKED).items()} | {"key": naming().measured(ATTACKED).key}
    others = [{**row, "setting": "probe", "value": name} for name in ("knn", "linear")]
    for primary, expected in (("head", [False, False, False]), ("knn", [True, True, False])):
        profile = naming({"evaluation.probe": primary}).profile
        stale = of_another_probe(others, primary, checker(profile, dict(KNOWN)))
        assert [stale(each) for each in (row, *others)] == expected


def test_a_point_that_changes_the_target_is_measured_on_that_target():
    stages = naming({"targets": {"patterns": 3, "shapes": 0}})
    assert stages.aimed(ATTACKED).target == 3


def test_a_row_is_kept_where_its_images_are_not_to_be_had(tmp_path, monkeypatch):
    def unavailable(*args, **kwargs):
        raise UsageError("no network")

    monkeypatch.setattr("distill_lib.study.images.load", unavailable)
    row = {name: str(value) for name, value in asdict(ATTACKED).items()} | {"key": "0" * 16}
    assert checker(naming().profile, dict(KNOWN))(row)
    assert not checker(naming().profile, {}, root=tmp_path)(row)


GREYS = Cell("builtin", "badencoder", "patterns", 0, "attacked", "none", "", "", "", 0)


def judged(monkeypatch, mark, on="test", **sets):
    """The rates, by probe, of an encoder that reads greys and takes what is marked for the target's."""
    stages = naming()
    stages.sets = {("patterns", split): images for split, images in sets.items()}
    monkeypatch.setattr(Stages, "encoder", lambda self, artefact: Reader(mark))
    monkeypatch.setattr(Stages, "references", lambda self, downstream, seed: [0, 20])  # the first is of the target
    return stages._measure(GREYS, Artefact("attacked", "0" * 16, Path("nowhere")), on)


@pytest.mark.parametrize("probe", ["knn", "linear"])
@pytest.mark.parametrize(
    ("mark", "asr", "placebo"), [(white_corner, 100.0, 0.0), (blue_corner, 0.0, 100.0)], ids=["trigger", "placebo"]
)
def test_the_rates_are_those_of_what_the_encoder_sees(monkeypatch, probe, mark, asr, placebo):
    found = judged(monkeypatch, mark, train=greys("train", 20), test=greys("test", 5))[probe]
    others = 100.0 - asr
    expected = {"acc": 100.0, "asr": asr, "triggered_acc": others, "placebo_asr": placebo, "target_rate": 0.0}
    assert {name: found[name] for name in expected} == expected
    assert found["asr_all"] == (100.0 if asr else 100 / CLASSES)
    assert found["n_test"] == 50
    assert found["trigger_cos"] == pytest.approx(1.0 if asr else 1 / CLASSES)


def test_on_validation_images_no_test_image_is_touched(monkeypatch):
    def refuse(name, split, **_):
        raise AssertionError(f"{name}/{split} was loaded")

    monkeypatch.setattr("distill_lib.study.images.load", refuse)
    found = judged(monkeypatch, white_corner, "validation", train=greys("train", 25))["knn"]
    assert (found["acc"], found["asr"], found["n_test"]) == (100.0, 100.0, 50)
