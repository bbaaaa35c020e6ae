"""Checkpoints: whole or not there, and never code."""

import os
import pickle
import random

import pytest
import torch

from distill_lib.training.checkpoint import load_checkpoint, save_checkpoint

STATE = {
    "modules": {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(3)},
    "optimiser": {
        "state": {0: {"step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 0.1, "params": [0], "fused": True}],
    },
    "order": torch.empty(0, dtype=torch.int64),
    "log": [{"step": 1, "loss": 0.25}],
}


class Bomb:
    """A pickle that, if executed, makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "folder" / "state.pt"
    save_checkpoint(path, STATE)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["modules"]["weight"], STATE["modules"]["weight"])
    assert loaded["order"].dtype == torch.int64
    assert loaded["optimiser"]["param_groups"] == STATE["optimiser"]["param_groups"]
    assert loaded["log"] == STATE["log"]


def test_memory_layout_survives(tmp_path):
    weight = torch.rand(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "state.pt", {"weight": weight})
    loaded = load_checkpoint(tmp_path / "state.pt")["weight"]
    assert loaded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded, weight)


def test_the_latest_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "state.pt"
    for step in (1, 2):
        save_checkpoint(path, {"step": step})
    assert load_checkpoint(path) == {"step": 2}
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]


def test_a_kill_while_writing_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"step": 1})

    def half(_state, file):
        file.write_bytes(b"PK half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}


def test_no_file_is_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path / "none.pt") is None


@pytest.mark.parametrize("plain", [True, False], ids=["bare pickle", "inside torch.save"])
def test_code_is_not_executed(tmp_path, plain):
    path, made = tmp_path / "bomb.pt", tmp_path / "made"
    if plain:
        path.write_bytes(pickle.dumps(Bomb(made), protocol=2))
    else:
        torch.save({"modules": Bomb(made)}, path)
    assert load_checkpoint(path) is None
    assert not made.exists()
    torch.load(path, weights_only=False) if not plain else pickle.loads(path.read_bytes())
    assert made.exists()  # it would have been


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_are_no_checkpoints(tmp_path):
    path, source = tmp_path / "state.pt", random.Random(0)
    save_checkpoint(path, STATE)
    raw = path.read_bytes()
    damaged = [raw[: len(raw) * part // 20] for part in range(20)]
    damaged += [source.randbytes(source.randrange(1, 400)) for _ in range(100)]
    damaged += [b"", bytes(3000), b"hello world\n" * 30]
    for content in damaged:
        path.write_bytes(content)
        assert load_checkpoint(path) is None
