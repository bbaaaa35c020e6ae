"""What a computation took: its own peak of memory, and the seconds of all attempts."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from distill_lib.study import cost
from distill_lib.study.cost import Meter, highest_rss_mb, peak_rss_mb
from distill_lib.study.store import Store

MB = 300  # more than a small computation takes


def large():
    """Touch memory and give it back."""
    return float(np.ones(MB * 2**17).sum())


def can_forget():
    try:
        cost.CLEAR.write_text("5")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not can_forget(), reason="the system does not set its peak back")
def test_a_peak_is_that_of_the_computation_and_not_of_what_came_before(tmp_path):
    before = peak_rss_mb()
    large()
    assert peak_rss_mb() > before + 0.5 * MB
    runs = Store(tmp_path)
    small = runs.make("small", 1, {}, lambda work: (None, {})).cost["peak_rss_mb"]
    big = runs.make("big", 1, {}, lambda work: (None, {"sum": large()})).cost["peak_rss_mb"]
    assert 0 < small < big - 0.5 * MB
    assert highest_rss_mb() >= big  # a job's own peak is not forgotten


def test_where_the_system_cannot_forget_the_peak_of_the_process_stands_in(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "CLEAR", Path("/nonexistent/clear_refs"))
    monkeypatch.setattr(cost, "STATUS", Path("/nonexistent/status"))
    found = Store(tmp_path).make("small", 1, {}, lambda work: (None, {})).cost
    assert found["peak_rss_mb"] > 10
    assert "peak_device_mb" not in found


@pytest.fixture
def clock(monkeypatch):
    """The time that a meter reads, in seconds; it passes where a test says so."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("distill_lib.study.cost.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def interrupted(runs, clock, kept):
    def compute(work):
        clock.seconds += 20
        if kept:
            work.kept()
        clock.seconds += 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.make("stage", 1, {}, compute)


def test_a_resumed_stage_took_what_both_attempts_took_up_to_the_checkpoint(tmp_path, clock):
    def compute(work):
        clock.seconds += 7
        return None, {}

    runs = Store(tmp_path)
    interrupted(runs, clock, kept=True)
    (left,) = (tmp_path / "partial").glob("stage-*/cost.json")
    content = json.loads(left.read_text())
    left.write_text(json.dumps({**content, "peak_rss_mb": 1e6}))
    found = runs.make("stage", 1, {}, compute).cost
    assert content["wall_s"] == 20
    assert found["wall_s"] == 27  # what was lost is not counted
    assert found["peak_rss_mb"] == 1e6
    assert not list((tmp_path / "partial").iterdir())


def test_without_a_checkpoint_an_attempt_counts_alone(tmp_path, clock):
    runs = Store(tmp_path)
    interrupted(runs, clock, kept=False)
    assert runs.make("stage", 1, {}, lambda work: (None, {})).cost["wall_s"] == 0


@pytest.mark.parametrize("text", ["{", "3", '{"wall_s": null}'])
def test_a_damaged_note_is_as_none(tmp_path, text, clock):
    (tmp_path / "cost.json").write_text(text)
    assert Meter(tmp_path / "cost.json").read()["wall_s"] == 0


def test_on_a_gpu_its_peak_is_noted_too(tmp_path, monkeypatch):
    calls = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        reset_peak_memory_stats=calls.append,
        max_memory_allocated=lambda i: (i + 1) * 2**20,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert Meter(tmp_path / "cost.json").read()["peak_device_mb"] == 2.0
    assert calls == [0, 1]
