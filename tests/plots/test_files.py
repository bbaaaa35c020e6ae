import numpy as np
import pytest

from distill_lib.plots import files, save
from distill_lib.plots.style import new_figure
from distill_lib.plots.summary import plain


def test_save_and_read_give_the_numbers_back(tmp_path):
    numbers = {"a": np.array([1.5, np.nan]), "b": [np.int64(3), None], 2: (True, "x")}
    paths = save(new_figure(1), tmp_path / "new", "picture", numbers, "words", "headline")
    assert [p.name for p in paths] == ["picture.png", "picture.svg", "picture.json"]
    assert files.read(paths[2]) == ("headline", {"a": [1.5, None], "b": [3, None], "2": [True, "x"]}, "words")


def test_a_file_is_written_only_when_its_bytes_change(tmp_path):
    path = tmp_path / "x"
    assert files.write_if_changed(path, b"1")
    assert not files.write_if_changed(path, b"1")
    assert files.write_if_changed(path, b"2")
    assert path.read_bytes() == b"2"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]  # no temporary file is left


def test_clip_paths_are_named_in_order_whatever_their_hash():
    def svg(first, second):
        used = f'<g clip-path="url(#{first})"/><g clip-path="url(#{second})"/><path clip-path="url(#{first})"/>'
        return f'{used}<text>p0123456789</text><clipPath id="{first}"/><clipPath id="{second}"/>'.encode()

    one, other = (
        files._numbered(svg(*names)) for names in (("p0123456789", "pabcdef0123"), ("pffffffffff", "p0000000000"))
    )
    assert one == other == svg("clip1", "clip2")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        files.write_if_changed(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x": b"old"}


def test_plain_values_are_json_values():
    assert plain({"x": (np.float32(0.5), float("inf"), np.zeros((1, 2)))}) == {"x": [0.5, None, [[0.0, 0.0]]]}
    assert type(plain(np.int64(3))) is int
