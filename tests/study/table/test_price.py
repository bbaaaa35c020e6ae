import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill_lib.study import notebooks
from distill_lib.study.config.load import load_profile
from distill_lib.study.table import price
from distill_lib.study.table.price import Price
from distill_lib.study.table.wants import WANTS, Want

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
MEASURED = {"pretrain": 10.0, "attack": 4.0, "cell": 1.5, "read": 0.5}


@pytest.fixture
def profile():
    """The tiny profile with measured minutes."""
    return replace(load_profile(TINY), minutes=MEASURED)


def test_minutes_are_what_was_measured_and_a_margin(profile, tmp_path):
    found = Price(profile, None, tmp_path)
    assert found.fill([Want("pretrain", None, cost="pretrain")])["minutes"] == 2 + 2 * 10
    assert found.fill([Want("rates", None)] * 3)["minutes"] == 2 + 2 * 3 * 1.5
    shared = [Want("sweep", None, shared=("pretrain", "attack"))] * 2
    assert found.fill(shared)["minutes"] == 2 + 2 * (2 * 1.5 + 14)  # made once
    assert found.notebook["minutes"] == 5  # the least, over 2 + 2 * 0.5
    assert found.fill([Want("rates", None), Want("x", None, cost="unheard")])["minutes"] == price.MINUTES


def test_memory_is_that_of_the_largest_process_for_each(profile, tmp_path):
    assert Price(profile, None, tmp_path).notebook["memory_mb"] == price.MEMORY_MB
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    manifest = tmp_path / "results" / "tiny" / "manifest.json"
    manifest.write_text(json.dumps({"jobs": {"a": {"peak_rss_mb": 700.0}, "b": {"peak_rss_mb": 1000}}}))
    assert Price(profile, None, tmp_path).notebook["memory_mb"] == 6500  # five processes and a quarter more
    assert Price(profile, "cuda:1", tmp_path).notebook["memory_mb"] == 1500  # one on a GPU
    manifest.write_text("[]")
    assert Price(profile, None, tmp_path).notebook["memory_mb"] == price.MEMORY_MB


def test_a_gpu_is_wanted_where_the_device_is_one(profile, tmp_path):
    assert Price(profile, None, tmp_path).gpus == 0
    assert Price(profile, "cuda", tmp_path).gpus == 1
    assert Price(replace(profile, device="cuda"), "auto", tmp_path).gpus == 1


def test_what_has_committed_results_has_its_minutes():
    quick, first = load_profile("quick"), {"pretrain", "attack", "cell", "read"}
    methods = {*quick.datafree.methods, *quick.datafree.defended, *quick.datafree.bridge}
    assert {*first, *methods, "classifier", "teacher", "thief"} <= set(quick.minutes)
    assert first <= set(load_profile("laptop").minutes)
    assert set(WANTS) < set(notebooks.NOTEBOOKS)
