import os

import numpy as np
import pytest

from distill_lib.data.cache import cached


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(5), "y": np.ones((2, 2), np.uint8)}


def test_made_once_then_read(tmp_path):
    make = Maker()
    first, second = (cached(tmp_path / "deep" / "set.npz", make) for _ in range(2))
    assert make.calls == 1
    assert {key: value.tolist() for key, value in first.items()} == {k: v.tolist() for k, v in second.items()}
    assert second["y"].dtype == np.uint8
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["set.npz"]


def test_without_a_path_nothing_is_kept():
    make = Maker()
    cached(None, make)
    cached(None, make)
    assert make.calls == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"text"])
def test_a_broken_file_is_made_anew(tmp_path, content):
    path, make = tmp_path / "set.npz", Maker()
    path.write_bytes(content)
    cached(path, make)
    cached(path, make)
    assert make.calls == 1


def test_a_truncated_file_is_made_anew(tmp_path):
    path, make = tmp_path / "set.npz", Maker()
    cached(path, make)
    path.write_bytes(path.read_bytes()[:-40])
    assert cached(path, make)["x"].tolist() == [0, 1, 2, 3, 4]
    assert make.calls == 2


def test_a_place_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").touch()
    assert cached(tmp_path / "file" / "set.npz", Maker())["x"].tolist() == [0, 1, 2, 3, 4]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    cached(tmp_path / "set.npz", Maker())
    assert list(tmp_path.iterdir()) == []
