import dataclasses

import pytest
import torch

from distill_lib.data import ImageSet
from distill_lib.study import tables
from distill_lib.study.config.load import load_profile
from distill_lib.tools.bench import precision

CPU = torch.device("cpu")


def rows(differences):
    """A made-up table: float32 at 50 %, bf16 as far from it as said."""
    return [
        {"precision": name, "seed": str(100 + i), "knn_acc": repr(50.0 + gap * (name == "bf16"))}
        for i, gap in enumerate(differences)
        for name in precision.PRECISIONS
    ]


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([0.1, -0.2, 0.3, 0.0, -0.1], "equal within 2 points"),
        ([-5.0, -5.5, -4.5, -5.2, -4.8], "different by more than 2 points"),
        ([5.0, 5.5, 4.5, 5.2, 4.8], "different by more than 2 points"),
        ([-3.0, 3.0, 1.0, -1.0, 0.5], "undecided"),
        ([1.5, 1.52], "equal within 2 points"),
        ([1.5, 1.9], "undecided"),
    ],
)
def test_the_verdict_is_the_intervals_place(differences, words):
    found = precision.compare(rows(differences), len(differences))
    assert precision.verdict(found).endswith(f"(n = {len(differences)} seeds): {words}")
    assert found.mean == pytest.approx(sum(differences) / len(differences))


def test_pairs_are_matched_by_seed_whatever_the_tables_order():
    found = precision.compare(reversed(rows([1.0, 2.0, 3.0])), 3)
    assert (found.mean, found.n) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.302652 / 3**0.5, rel=1e-5)  # t of 2 degrees, deviation 1


def fill(tmp_path, measure, wanted, profile=None):
    profile = profile or load_profile("quick")
    path = tmp_path / "precision.csv"
    return precision.complete(profile, CPU, path, tmp_path, wanted, measure, lambda text: None)


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    calls = []

    def measure(profile, device, kind, seed):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append((seed, kind))
        return 400, seed / 3

    wanted = [(100, "float32"), (100, "bf16"), (101, "float32")]
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, measure, wanted)
    assert len(tables.read(tmp_path / "precision.csv")) == 2
    found = fill(tmp_path, lambda *args: calls.append(args[3:1:-1]) or (400, 12.5), wanted)
    assert calls == [(100, "float32"), (100, "bf16"), (101, "float32")]
    assert [row["knn_acc"] for row in found] == [repr(100 / 3), repr(100 / 3), "12.5"]
    before = (tmp_path / "precision.csv").read_bytes()
    assert fill(tmp_path, None, wanted) == found
    assert (tmp_path / "precision.csv").read_bytes() == before


def test_other_settings_are_measured_anew_in_the_same_row(tmp_path):
    fill(tmp_path, lambda *args: (400, 1.0), [(100, "bf16")])
    profile = load_profile("quick")
    wider = dataclasses.replace(profile, encoder=dataclasses.replace(profile.encoder, width=32))
    fill(tmp_path, lambda *args: (400, 2.0), [(100, "bf16")], wider)
    assert [row["knn_acc"] for row in tables.read(tmp_path / "precision.csv")] == ["2.0"]


def test_the_margin_is_said_before_any_training(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(precision, "trained", lambda *args: (said.append("training") or 400, 50.0))
    found = precision.study(CPU, tmp_path / "results", tmp_path / "runs", 2, said.append)
    assert "within 2 points" in said[0]
    assert said[1] == "training"
    assert said[-1].endswith("equal within 2 points")
    assert (found.mean, found.n) == (0.0, 2)
    assert '"margin": 2.0' in (tmp_path / "results" / "precision_cpu.json").read_text()


def test_a_row_is_a_training_in_its_precision_measured_on_held_out_images(monkeypatch):
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8, generator=draws)
    made = ImageSet("made", "train", images, torch.arange(40) % 4, tuple("abcd"), "builtin")
    monkeypatch.setattr(precision, "load", lambda name, cache_dir: made)
    quick = load_profile("quick")
    optimisation = dataclasses.replace(quick.pretraining.optimisation, batch=20)
    small = dataclasses.replace(
        quick,
        encoder=dataclasses.replace(quick.encoder, width=4),
        pretraining=dataclasses.replace(quick.pretraining, optimisation=optimisation),
    )
    built, build = [], precision.build_encoder
    monkeypatch.setattr(precision, "build_encoder", lambda *args: built.append(args[1:]) or build(*args))
    count, accuracy = precision.trained(small, CPU, "bf16", 100)
    assert built == [(100, "bf16")]
    assert count == 3 * 8  # a fifth of each set
    assert accuracy * 8 / 100 == pytest.approx(round(accuracy * 8 / 100))
    assert precision.trained(small, CPU, "bf16", 100) == (count, accuracy)
