"""Whole repairs: what is written loads back, strictly, where it came from."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill_lib.errors import UsageError
from distill_lib.plots import redraw
from distill_lib.tools.purify import purify as module
from distill_lib.tools.purify.purify import Settings, check_out, purify

HALVES = (0.5, 0.5, 0.5)
SHORT = {"steps": 6, "device": "cpu"}
OWN = Settings("study_stem2", **SHORT)


def check_same_form(path, weights):
    """The file has exactly these keys, shapes and types; gives its tensors."""
    found = load_file(path)
    forms = [{name: (each.shape, each.dtype) for name, each in one.items()} for one in (found, weights)]
    assert forms[0] == forms[1]
    assert all(each.isfinite().all() for each in found.values())
    return found


def test_an_encoder_of_the_study(own, own_weights, folder, tmp_path):
    said, stages = [], []
    out = tmp_path / "clean.safetensors"

    def watch(stage):
        from distill_lib.training.loop import Watch

        stages.append(stage)
        return Watch()

    report = purify(own, folder, out, OWN, said.append, watch)
    found = check_same_form(out, own_weights)
    assert torch.equal(found["mean"], own_weights["mean"])
    assert not torch.equal(found["conv.weight"], own_weights["conv.weight"])
    sha256 = hashlib.sha256(own.read_bytes()).hexdigest()
    assert report["sha256"] == sha256
    assert any(sha256 in line for line in said)
    assert "the normalisation is among the weights" in " ".join(said)
    assert stages == ["reading images", "trying triggers, before", "fine-tuning the teacher", "warming the student up",
                      "distilling with at", "trying triggers, after"]  # fmt: skip


def test_what_lies_beside_the_weights(own, folder, tmp_path):
    report = purify(own, folder, tmp_path / "clean.safetensors", OWN)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    figures = {f"clean.report/{name}.{end}" for name in ("attention", "sensitivity") for end in ("png", "svg", "json")}
    assert names == {"clean.safetensors", "clean.md", "clean.report/report.json", "clean.report/index.html", *figures}
    assert json.loads((tmp_path / "clean.report/report.json").read_text()) == report
    card = (tmp_path / "clean.md").read_text()
    for words in (report["sha256"], "study_stem2", "recipe", "seed 0", report["versions"]["torch"], "trained afresh"):
        assert words in card
    page = (tmp_path / "clean.report/index.html").read_text()
    assert page.count("data:image/png;base64,") == page.count('alt="') == 2
    assert "://" not in page
    assert redraw(tmp_path / "clean.report/attention.json").axes


def test_the_same_seed_gives_the_same_weights(own, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_report", lambda *_: None)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        purify(own, folder, tmp_path / f"{name}.safetensors", Settings("study_stem2", seed=seed, **SHORT))
    one, other, third = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert one == other
    assert one != third


def test_a_resnet_of_torchvision_with_its_head(resnet_weights, folder, tmp_path):
    from torchvision.models import resnet18

    torch.save({"epoch": 3, "state_dict": resnet_weights}, tmp_path / "suspect.pth")
    settings = Settings(size=32, mean=HALVES, std=HALVES, **SHORT)
    report = purify(tmp_path / "suspect.pth", folder, tmp_path / "clean.safetensors", settings)
    found = check_same_form(tmp_path / "clean.safetensors", resnet_weights)
    assert torch.equal(found["fc.weight"], resnet_weights["fc.weight"])
    assert torch.equal(found["fc.bias"], resnet_weights["fc.bias"])
    assert not torch.equal(found["conv1.weight"], resnet_weights["conv1.weight"])
    resnet18(num_classes=10).load_state_dict(found, strict=True)
    assert report["architecture"] == "resnet18"
    assert "the weights lie under 'state_dict'" in report["inferred"]
    assert "train it anew" in (tmp_path / "clean.md").read_text()


def test_a_transformer_of_torchvision(folder, tmp_path):
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 4, 3, 48, 96, num_classes=5)
    model.heads.head.weight.data.normal_()
    weights = model.state_dict()
    save_file(weights, tmp_path / "vit.safetensors")
    settings = Settings("vit:3", mean=HALVES, std=HALVES, **SHORT)
    purify(tmp_path / "vit.safetensors", folder, tmp_path / "clean.safetensors", settings)
    found = check_same_form(tmp_path / "clean.safetensors", weights)
    assert torch.equal(found["heads.head.weight"], weights["heads.head.weight"])
    assert not torch.equal(found["class_token"], weights["class_token"])
    model.load_state_dict(found, strict=True)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_timms_networks(name, folder, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    sized = {"img_size": 32} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=7, **sized)
    weights = model.state_dict()
    torch.save(weights, tmp_path / "suspect.bin")
    settings = Settings(f"timm:{name}", 32, HALVES, HALVES, recipe="finetune", steps=2, device="cpu")
    purify(tmp_path / "suspect.bin", folder, tmp_path / "clean.safetensors", settings)
    found = check_same_form(tmp_path / "clean.safetensors", weights)
    head = "head.weight" if name.startswith("vit") else "fc.weight"
    assert torch.equal(found[head], weights[head])
    timm.create_model(name, num_classes=7, **sized).load_state_dict(found, strict=True)


def test_a_failing_repair_leaves_earlier_files_as_they_were(own, folder, tmp_path, monkeypatch):
    purify(own, folder, tmp_path / "clean.safetensors", OWN)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def diverge(*_):
        raise FloatingPointError("the loss is no longer finite at step 3")

    monkeypatch.setattr(module.recipes, "distillation", diverge)
    with pytest.raises(UsageError, match="recipe 'recipe' diverges here"):
        purify(own, folder, tmp_path / "clean.safetensors", Settings("study_stem2", seed=5, **SHORT))
    monkeypatch.undo()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_report", full)
    with pytest.raises(UsageError, match="No space left on device"):
        purify(own, folder, tmp_path / "clean.safetensors", Settings("study_stem2", seed=5, **SHORT))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_where_the_result_can_go(own, tmp_path):
    check_out(tmp_path / "new.safetensors", own)
    (tmp_path / "folder.safetensors").mkdir()
    for out, words in (
        ("clean.pt", "is no name for weights; allowed: one that ends in .safetensors"),
        ("nosuch/clean.safetensors", "lies in no folder that can be written to"),
        ("folder.safetensors", "is there and is no file"),
    ):
        with pytest.raises(UsageError, match=words):
            check_out(tmp_path / out, own)
    with pytest.raises(UsageError, match="is the suspicious encoder itself"):
        check_out(own, own)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recipe": "nosuch"}, "unknown recipe 'nosuch'"),
        ({"views": 0}, "views 0 is impossible; allowed: 1 or more"),
        ({"steps": -1}, "steps -1 is impossible"),
        ({"seed": -1}, "seed -1 is impossible; allowed: 0 or more"),
        ({"mean": (0.5, 0.5)}, "mean .* is impossible; allowed: three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std .* is impossible"),
        ({"std": (0.5, float("nan"), 0.5)}, "std .* is impossible"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Settings(**settings)
