import json
import time

import pytest

from distill_lib.study import progress
from distill_lib.study.display import Display, duration, progress_text
from distill_lib.study.progress import NullReporter, Reporter


@pytest.fixture
def file(tmp_path):
    return tmp_path / "progress.json"


def test_what_is_reported_is_read(file):
    Reporter(file, "01_attack").report("head", 3, 10, {"align": 1.0, "loss": 0.25, "epoch": 1.5}, "badencoder")
    state = progress.read(file)
    assert (time.time() - state.pop("started")) < 5
    assert (time.time() - state.pop("updated")) < 5
    expected = {
        "job": "01_attack",
        "stage": "head",
        "kind": "badencoder",
        "step": 3,
        "steps": 10,
        "loss": 0.25,
        "epoch": 1.5,
        "first": 3,
    }
    assert state == expected


def test_writes_are_rare_but_for_a_stage_s_ends(file, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    reporter, seen = Reporter(file), []
    for step in range(1, 101):
        reporter.report("train", step, 100, {"loss": step})
        seen.append(progress.read(file)["step"])
        now[0] += 0.01
    assert sorted(set(seen)) == [1, 26, 51, 76, 100]
    reporter.report("next", 0, 10)
    assert progress.read(file)["stage"] == "next"


def test_terms_are_read_only_when_written(file):
    class Tensor:
        read = 0

        def __float__(self):
            self.read += 1
            return 1.5

    tensor, reporter = Tensor(), Reporter(file)
    for step in range(50):
        reporter.report("train", step, 100, {"nt_xent": tensor})
    assert tensor.read == 1
    assert progress.read(file)["loss"] == 1.5


def test_a_stage_run_again_starts_anew(file):
    reporter = Reporter(file)
    reporter.report("train", 90, 100)
    reporter.report("train", 10, 100)
    assert progress.read(file)["first"] == 10


def test_a_place_that_cannot_be_written_is_no_error(tmp_path):
    Reporter(tmp_path / "missing" / "progress.json").report("train", 1, 2)
    NullReporter().report("train", 1, 2)
    assert progress.read(tmp_path / "missing" / "progress.json") is None


def test_half_a_file_reads_as_nothing(file):
    file.write_text(json.dumps({"a": 1})[:-1])
    assert progress.read(file) is None


def test_time_left_counts_from_where_the_stage_was_resumed():
    state = {"first": 500, "step": 600, "steps": 1000, "started": 0.0, "updated": 10.0}
    assert progress.seconds_left(state) == 40.0
    assert progress.seconds_left({**state, "step": 500}) is None
    assert progress.seconds_left({**state, "step": 1000}) is None


def test_texts():
    state = {
        "stage": "pretrain",
        "first": 0,
        "step": 50,
        "steps": 100,
        "started": 0,
        "updated": 65,
        "loss": 4.56789,
    }
    assert progress_text([state]) == "pretrain 50/100, loss 4.568, 1 min 05 s left"
    assert progress_text([{**state, "epoch": 2.5}]) == "pretrain 50/100, epoch 3/5, loss 4.568, 1 min 05 s left"
    assert progress_text([{**state, "steps": 0, "loss": None}]) == "pretrain"
    assert progress_text([{**state, "step": 100}, {**state, "steps": 0, "loss": None}]) == (
        "pretrain 100/100, loss 4.568 | pretrain"
    )
    assert progress_text([]) == "starting"
    assert [duration(s) for s in (0.4, 59.4, 59.6, 3599, 7800)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 10 min",
    ]


class Stream:
    def __init__(self, tty):
        self.text, self.tty = "", tty

    def isatty(self):
        return self.tty

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_terminal_s_live_line_is_written_over(monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    stream = Stream(tty=True)
    display = Display(stream)
    display.live("one")
    display.live("one")
    display.live("x" * 50)
    display.line("done")
    assert stream.text == "\r\x1b[2Kone\r\x1b[2K" + "x" * 9 + "\r\x1b[2Kdone\n"


def test_elsewhere_lines_come_rarely_and_only_when_changed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("distill_lib.study.display.time.monotonic", lambda: now[0])
    stream = Stream(tty=False)
    display = Display(stream, every=5)
    for second in range(1, 13):
        now[0] = second
        display.live(f"step {second // 6}")
    display.line("done")
    assert stream.text == "step 0\nstep 1\ndone\n"


def test_processes_of_a_job_are_read_together(file, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    assert progress.read_all(file) == []
    Reporter(file).report("old", 1, 10)
    now[0] += 61
    Reporter(progress.beside(file, 7)).report("one", 1, 10)
    Reporter(progress.beside(file, 8)).report("two", 2, 0)
    Reporter(progress.beside(file, 9)).report("ended", 10, 10)
    assert [state["stage"] for state in progress.read_all(file)] == ["one", "two"]
    now[0] += 61
    assert [state["stage"] for state in progress.read_all(file)] == ["ended"]
