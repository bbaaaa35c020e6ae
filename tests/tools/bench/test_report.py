import json

import pytest

from distill_lib.tools.bench import report as module
from distill_lib.tools.bench.datafree.measurements import DATA_FREE
from distill_lib.tools.bench.pairs import Budget, Contest
from distill_lib.tools.bench.report import report
from distill_lib.vision.encoders import EncoderConfig

NAMES = ["simclr_step", "augmentation", "badencoder_step", "distillation_step", "head_training", *DATA_FREE]
LIMITS = ["step_over_bare", "matmul_share"]


def fake(second, built):
    """A contest on a fake clock: 6 seconds against `second`."""

    def build(setup, workers):
        built.append(workers)
        return Contest(lambda steps: 6.0, lambda steps: second, "seconds: a / b")

    return build


@pytest.fixture
def clockless(monkeypatch):
    """The bench's rows with known times; gives the workers that each was built with."""
    built = []
    monkeypatch.setattr(module, "AGAINST_LOOPS", {"simclr_step": fake(2.0, built), "augmentation": fake(1.0, built)})
    monkeypatch.setattr(module, "AGAINST_LIMITS", {"step_over_bare": fake(5.0, built)})
    for name in ("flatness", "prices"):
        monkeypatch.setattr(module, name, lambda setup, budget: [])
    return built


def cores(monkeypatch, count):
    found = {"cpu": "a processor", "cores": count, "gpus": [], "system": "Linux"}
    monkeypatch.setattr(module.manifest, "hardware", lambda: found)


def test_with_two_cores_the_rows_of_all_cores_are_the_same_pairs(tiny, clockless, monkeypatch):
    cores(monkeypatch, 2)
    rows = {row["name"]: row for row in report(tiny, Budget(0.001, 5), lambda text: None)["ratios"]}
    assert clockless == [2, 2, 2]
    assert rows["simclr_step"] == {
        "name": "simclr_step",
        "ratio": 3.0,
        "low": 3.0,
        "high": 3.0,
        "pairs": 5,
        "unit": "seconds: a / b",
    }
    assert rows["simclr_step_all_cores"]["ratio"] == 3.0
    assert rows["simclr_step_all_cores"]["unit"] == "seconds: a / b (2 cores: the same pairs)"
    assert rows["step_over_bare"]["ratio"] == 1.2


def test_with_more_cores_they_are_measured_with_as_many_workers(tiny, clockless, monkeypatch):
    cores(monkeypatch, 8)
    rows = report(tiny, Budget(0.001, 2), lambda text: None)["ratios"]
    assert clockless == [2, 2, 8, 8, 2]
    assert [row["name"] for row in rows if "same pairs" in row["unit"]] == []


def test_what_reads_through_no_loader_is_measured_once(tiny, clockless, monkeypatch):
    cores(monkeypatch, 8)
    monkeypatch.setitem(module.AGAINST_LOOPS, "zskt_turn", fake(3.0, clockless))
    rows = {row["name"]: row for row in report(tiny, Budget(0.001, 2), lambda text: None)["ratios"]}
    assert clockless == [2, 2, 2, 8, 8, 2]
    assert rows["zskt_turn_all_cores"]["ratio"] == rows["zskt_turn"]["ratio"] == 2.0
    assert rows["zskt_turn_all_cores"]["unit"] == "seconds: a / b (no loader: the same pairs)"


def test_a_tiny_bench_from_end_to_end(tiny, monkeypatch):
    monkeypatch.setattr(module, "PAPERS", EncoderConfig(18, 16, 1))  # the published width takes half a minute
    said = []
    result = json.loads(json.dumps(report(tiny, Budget(0.001, 2), said.append)))
    rows = {row["name"]: row for row in result["ratios"]}
    wanted = [*NAMES, "simclr_step_float32", "head_training_cached"]
    assert {*wanted, *(f"{name}_all_cores" for name in wanted), *LIMITS} == set(rows)
    for row in rows.values():
        assert set(row) == {"name", "ratio", "low", "high", "pairs", "unit"}
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["pairs"] == 2
        assert row["unit"]
    assert rows["simclr_step_float32"]["unit"].endswith("(float32 either way)")
    assert [row["images"] for row in result["flatness"]] == [16, 32]
    assert all(row["low"] <= row["microseconds"] <= row["high"] for row in result["flatness"])
    assert result["memory"]["process"] > 1
    assert {"cpu", "cores", "torch", "threads", "precision"} <= set(result["hardware"])
    assert result["seconds"]["simclr_step"]["first"] > 0
    small, large = result["prices"]
    assert [small["encoder"][:10], large["encoder"]] == ["ResNet-10,", "ResNet-18, width 16, stem stride 1"]
    assert small["microseconds"] < large["microseconds"]
    assert len(said) == len(rows) + 4
