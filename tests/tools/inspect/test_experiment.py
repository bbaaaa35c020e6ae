"""The experiment over many encoders: what is in it, that it resumes, how it is judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.defences.inversion import AimConfig, InversionConfig
from distill_lib.evaluation.detection import threshold
from distill_lib.study import tables
from distill_lib.study.config.load import load_profile
from distill_lib.study.stages import Stages
from distill_lib.study.store import Store
from distill_lib.tools.inspect import experiment
from distill_lib.tools.inspect.audit import AuditConfig
from distill_lib.tools.inspect.experiment import CONTROL, HELD_OUT, PURIFIED, TRIGGERS, Plan, Subject, under
from distill_lib.training.loop import Schedule
from distill_lib.vision.triggers import corner_patch

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
CONFIG = InversionConfig(steps=1, starts=0)
PLAN = Plan((20, 21, 22), (0, 1), (0,), (1,), (), (0,))
SETTINGS = {"defender.share": 0.1, "injection.shadow": 64, "defender.views": 400, "encoder.width": 16}


def image_set(name, split, count, seed):
    source = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=source)
    labels = torch.arange(count) % 5
    return ImageSet(name, split, images, labels, tuple("abcde"), "builtin")


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Of the tiny profile, with a few random images; pre-training costs nothing and does nothing."""
    monkeypatch.setattr(Stages, "pretrain", lambda *_: [])
    sizes = {"builtin": 300, "patterns": 120, "shapes": 120}
    places = [(name, split) for name in sizes for split in ("train", "test")]
    sets = {each: image_set(*each, sizes[each[0]], number) for number, each in enumerate(places)}
    profile = load_profile(TINY, SETTINGS)
    return Stages(profile, Store(tmp_path / "runs"), torch.device("cpu"), precision="float32", sets=sets)


def makes(stages):
    """Kinds of what was computed so far."""
    return [line.split()[1] for line in (stages.store.root / "makes.log").read_text().splitlines()]


def test_the_plan_meets_the_bar():
    plan = Plan()
    subjects = plan.subjects()
    count = {group: sum(each.group == group for each in subjects) for group in ("reference", "clean", "attacked")}
    assert len(set(subjects)) == len(subjects)
    assert count["clean"] >= 12
    assert count["attacked"] - len(plan.poisoned_data) >= 12
    assert not set(plan.reference) & {each.seed for each in subjects if each.group != "reference"}
    assert max(each.seed for each in subjects) < 100  # reported seeds
    assert {each.trigger for each in subjects if each.group == "attacked"} == set(TRIGGERS)
    held = {(each.attack, each.trigger) for each in subjects if each.held_out}
    assert held == {("badencoder", HELD_OUT), ("ctrl", "profile's")}
    seeds = [each.seed for each in subjects if each.group == "attacked" and each.attack == "badencoder"]
    assert len(set(seeds)) == len(seeds)  # each attacked encoder from another clean one


def test_the_profiles_own_trigger_has_the_studys_own_keys_and_another_has_not(stages):
    own = under(stages, Subject("attacked", 0, "badencoder"))
    other = under(stages, Subject("attacked", 0, "badencoder", HELD_OUT))
    assert own.trigger() == stages.trigger() == corner_patch(10)
    assert other.trigger() == TRIGGERS[HELD_OUT]
    keys = [each.attacked(0, "patterns").key for each in (stages, own, other)]
    assert keys[0] == keys[1] != keys[2]


def test_a_killed_run_goes_on_where_it_was_and_a_second_run_does_nothing(stages, tmp_path):
    said = []

    def killed(line):
        said.append(line)
        if len(said) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(stages, PLAN, tmp_path, CONFIG, killed)
    assert len(tables.read(tmp_path / "inspect.csv")) == 5
    before = makes(stages)
    rows = experiment.run(stages, PLAN, tmp_path, CONFIG, said.append)
    added = makes(stages)[len(before) :]
    assert before.count("inspected") == 5
    assert added.count("inspected") == len(rows) - 5
    text, made = (tmp_path / "inspect.csv").read_text(), len(makes(stages))
    again = experiment.run(stages, PLAN, tmp_path, CONFIG, said.append)
    assert len(makes(stages)) == made
    assert (tmp_path / "inspect.csv").read_text() == text
    pd.testing.assert_frame_equal(rows, again)


def test_every_encoder_has_a_row_and_only_attacked_ones_a_rate(stages, tmp_path):
    rows = experiment.run(stages, PLAN, tmp_path, CONFIG, lambda line: None)
    assert list(rows["group"]) == [each.group for each in PLAN.subjects()]
    assert set(rows[rows["group"] == "purified"]["defence"]) == set(PURIFIED)
    assert set(rows[rows["group"] == "control"]["defence"]) == {CONTROL}
    attacked = rows["attack"] != ""
    assert rows[attacked]["asr"].between(0, 100).all()
    assert rows[~attacked]["asr"].isna().all()
    assert rows["key"].nunique() == len(rows)
    assert rows["size"].between(0, 1).all()
    kept = experiment.run(stages, replace(PLAN, clean=(0,)), tmp_path, CONFIG, lambda line: None)
    assert len(tables.read(tmp_path / "inspect.csv")) == len(kept) == len(rows) - 1  # what is not planned is dropped
    scores = experiment.clean_scores(stages, rows, CONFIG)
    assert len(scores.scores) == 3
    scores.check_fits(CONFIG, sum(each.numel() for each in stages.fresh(0).parameters()))


def test_the_audit_is_kept_and_asks_every_cured_encoder(stages, tmp_path):
    short = AuditConfig(AimConfig(2), (0, 2), Schedule(2, 16, "sgd", 1e-2))
    lists = list(experiment.audit_rows(stages, PLAN, short))
    rows = experiment.merged(tmp_path / "inspect_audit.csv", lists, stages.store.root)
    assert list(rows["encoder"].unique()) == ["attacked", *PURIFIED, CONTROL, "clean"]
    assert len(rows) == 5 * 3
    assert rows["share"].between(0, 100).all()
    made = len(makes(stages))
    list(experiment.audit_rows(stages, PLAN, short))
    assert len(makes(stages)) == made


def made_up():
    """Clean .30 to .33, the design's kinds .1 to .13, the held-out attack overlaps, one attack did not take."""

    def rows(group, sizes, attack="", trigger="profile's", planted=True):
        about = {"group": group, "attack": attack, "trigger": trigger, "held_out": attack == "ctrl"}
        about |= {"planted": planted if attack else np.nan}
        return [{**about, "seed": seed, "size": size} for seed, size in enumerate(sizes)]

    return pd.DataFrame([
        *rows("reference", [0.30, 0.31, 0.29, 0.30]), *rows("clean", [0.30, 0.31, 0.32, 0.33]),
        *rows("attacked", [0.10, 0.11], "badencoder"), *rows("attacked", [0.305, 0.2], "ctrl"),
        *rows("attacked", [0.9], "poisoned_data", planted=False), *rows("purified", [0.01], "badencoder"),
    ])  # fmt: skip


def test_the_summary_by_hand():
    found = experiment.summary(made_up(), 0.05).set_index("attacked")
    assert list(found.index) == ["all", "seen in the design", "held-out attack"]
    assert found.loc["all", "n_attacked"] == 4
    assert found.loc["all", "auc"] == pytest.approx((3 * 4 + 3) / 16)
    assert found.loc["seen in the design", "auc"] == 1.0
    assert found.loc["held-out attack", "auc"] == pytest.approx(7 / 8)
    limit = threshold([0.30, 0.31, 0.29, 0.30])
    assert (found["threshold"] == limit.value).all()
    assert (found["flagged_clean"] == 0).all()
    assert found.loc["all", "flagged_attacked"] == 3
    assert found.loc["all", "fpr_high"] == pytest.approx(1 - 0.025 ** (1 / 4))
