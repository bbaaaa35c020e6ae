"""The tiny profile as a table of jobs, on made-up images."""

from pathlib import Path

import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.study.table.load import load_table

TINY = (Path(__file__).parents[2] / "profiles" / "tiny.toml").read_text()
CHAIN = ("pretrain-s0", "attack-ctrl-s0", "rates-ctrl-shapes-s0")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The tiny profile on sets of 200 images of four classes, with a store of its own."""

    def load(name, split, **where):
        draw = torch.Generator().manual_seed(len(name + split))
        pixels = torch.randint(0, 256, (200, 3, 32, 32), dtype=torch.uint8, generator=draw)
        return ImageSet(name, split, pixels, torch.arange(200) % 4, tuple("abcd"), "builtin")

    monkeypatch.setattr("distill_lib.study.images.load", load)
    before = torch.get_num_threads()
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("share = 0.01", "share = 0.2").replace("[0.01, 0.02]", "[0.2, 0.3]"))
    yield load_table(str(path), runs=tmp_path / "runs", root=Path(__file__).parents[3])
    torch.set_num_threads(before)


@pytest.fixture
def filled(table):
    """The same with a part of the store filled."""
    assert [table.run(table.job(name)) for name in CHAIN] == [0, 0, 0]
    return table
