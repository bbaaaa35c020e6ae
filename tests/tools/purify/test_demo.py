import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distill_lib.study.cells import Cell
from distill_lib.study.session import open_study
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.tools.purify.demo import RunFirst, demonstrate
from distill_lib.tools.purify.images import read_folder
from distill_lib.vision.encoders import build_encoder

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")


@pytest.fixture
def place(tmp_path, enter_repository):
    enter_repository(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)  # opening the study changes them, for every test to come


def test_an_empty_store_says_what_to_run_first(place):
    with pytest.raises(RunFirst, match=r"has no attacked encoder .*allowed: after ./run_all.sh") as caught:
        demonstrate(TINY)
    assert caught.value._render_traceback_() == [str(caught.value)]
    assert not (place / "runs" / "your_encoder").exists()


def test_an_attacked_encoder_is_found_with_the_defenders_images(place, monkeypatch):
    stages = open_study(TINY, seeds=[0]).stages
    named = replace(stages, store=Naming(stages.store.root)).attacked(0, "patterns")
    folder = place / "runs" / "attacked" / named.key
    folder.mkdir(parents=True)
    weights = build_encoder(stages.profile.encoder, 0).state_dict()
    save_file({name: each.contiguous() for name, each in weights.items()}, folder / "weights.safetensors")
    (folder / "metrics.json").write_text("{}")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "cost.json").write_text(json.dumps({"files": sizes}))

    demonstration = demonstrate(TINY)
    assert demonstration.encoder == folder / "weights.safetensors"
    assert demonstration.arch == "study_stem4"
    assert demonstration.cell == Cell("builtin", "badencoder", "patterns", 0, "attacked", "none", "", "", "", 0)
    written = read_folder(demonstration.images, 32, 0).images
    assert torch.equal(written, stages.share(0))

    demonstration.out.write_bytes(demonstration.encoder.read_bytes())
    measured = []

    def measure(self, cell, encoder=None):
        measured.append((cell.stage, encoder.weights() if encoder else None))
        rates = dict.fromkeys(("acc", "asr", "placebo_asr", "triggered_acc", "target_rate"), 5.0 * len(measured))
        return type("Measured", (), {"metrics": {"head": rates}})

    monkeypatch.setattr(Stages, "measured", measure)
    table = demonstration.rates()
    assert [stage for stage, _ in measured] == ["clean", "attacked", "attacked"]
    assert torch.equal(measured[2][1]["conv.weight"], weights["conv.weight"])
    assert table["asr"].to_dict() == {"before the attack": 5.0, "attacked": 10.0, "repaired": 15.0}
