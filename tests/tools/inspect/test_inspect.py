"""The command, as a user types it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet18

from distill_lib import __main__ as main_module
from distill_lib.defences import inversion
from distill_lib.defences.inversion import Inversion, InversionConfig, SoftTrigger
from distill_lib.errors import UsageError
from distill_lib.evaluation.detection import Threshold
from distill_lib.tools.inspect import inspect as module
from distill_lib.tools.inspect.inspect import Report, Settings, chosen, clean_scores_of, inspect, verdict
from distill_lib.tools.inspect.reference import CleanScores, read_scores
from distill_lib.tools.inspect.suspect import Kind


@pytest.fixture(autouse=True)
def no_squares(monkeypatch):
    """Hundreds of forward passes less."""
    monkeypatch.setattr(inversion, "scan", lambda *_: [])


def answer(capsys, *argv):
    """(exit code, stdout, stderr) of a call."""
    try:
        code = main_module.main(["inspect", *map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def report(size=0.1, threshold=None, **changes):
    found = Inversion(SoftTrigger(torch.zeros(2, 2), torch.zeros(3, 2, 2)), size, 0.96, 0.5, True, [])
    made = Report("a file", "00", 1000, 100, found, threshold, (), InversionConfig())
    return replace(made, **changes)


def test_an_inspection_says_its_number_and_writes_its_report(capsys, weights, folder, tmp_path):
    before = weights.read_bytes()
    out = tmp_path / "report.json"
    options = ("--images", folder, "--arch", "study_stem4", "--steps", 2, "--device", "cpu", "--out", out)
    code, said, err = answer(capsys, weights, *options)
    assert (code, err) == (0, "")
    content = json.loads(out.read_text())
    assert f"takes {100 * content['size']:.1f} % of the image" in said or "No trigger was found" in said
    assert "nothing to hold it against" in said
    assert (content["images"], content["suspicious"], content["threshold"]) == (20, None, None)
    assert torch.tensor(content["mask"]).shape == (32, 32)
    assert weights.read_bytes() == before
    again = out.read_bytes()
    answer(capsys, weights, *options)
    assert out.read_bytes() == again  # the same seed, the same bits


def test_clean_scores_are_gathered_and_judge_the_next_one(capsys, weights, folder, tmp_path):
    scores = tmp_path / "clean.json"
    options = ("--images", folder, "--arch", "study_stem4", "--steps", 1, "--device", "cpu")
    for _ in range(3):
        code, said, _ = answer(capsys, weights, *options, "--as-clean", scores)
        assert code == 0
    assert f"{scores} holds 3 clean scores" in said
    assert len(read_scores(scores).scores) == 3
    code, said, _ = answer(capsys, weights, *options, "--clean-scores", scores)
    assert code == 0
    assert "threshold" in said
    code, _, err = answer(capsys, weights, *options[:-3], 2, "--clean-scores", scores)
    assert (code, err.count("\n")) == (2, 1)
    assert "were made at steps 1" in err


def test_an_audit_stands_beside_the_old_and_a_clean_encoder(capsys, weights, folder, monkeypatch):
    asked = []

    def audit(encoders, images, window, planted, reference, config, seed):
        asked.append((list(encoders), len(images), planted.size, len(reference)))
        return [{"encoder": "this one", "question": "aimed", "step": 0, "share": 12.0}]

    monkeypatch.setattr(module, "audit", audit)
    options = ("--images", folder, "--arch", "study_stem4", "--steps", 1, "--device", "cpu")
    code, said, _ = answer(capsys, weights, *options, "--suspect", weights, "--clean", weights)
    assert code == 0
    assert asked == [(["this one", "before", "clean"], 19, 10, 1)]
    assert "this one: another pattern: 12 % of triggered images" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch study_stem4 --images nowhere", "--images 'nowhere' is not a folder"),
        ("--images {folder} --arch study_stem4 --size none", "--size 'none'"),
        ("--images {folder} --arch study_stem4 --mean 0,0", "--mean '0,0' is impossible"),
        ("--images {folder} --arch vgg", "unknown architecture 'vgg'"),
        ("--images {folder} --arch study_stem2 --rate 1", "--rate '1' is impossible"),
        ("--images {folder} --arch study_stem2 --steps 0", "--steps '0' is impossible"),
        ("--images {folder} --arch study_stem2 --seed -1", "--seed"),
        ("--images {folder} --arch study_stem2 --out nowhere/x.json", "--out 'nowhere/x.json' lies in no folder"),
        ("--images {folder} --arch study_stem2 --clean {weights}", "--clean belongs to the audit"),
        ("--images {folder} --arch study_stem2 --clean-scores none.json", "clean scores 'none.json' cannot be read"),
        ("--images {folder} --arch study_stem2 --device abacus", "unknown device 'abacus'"),
        ("", "--images"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(capsys, weights, folder, options, message):
    code, out, err = answer(capsys, weights, *options.format(folder=folder, weights=weights).split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_an_encoder_of_another_library_is_inspected(capsys, folder, tmp_path):
    torch.manual_seed(0)
    torch.save({"state_dict": resnet18().state_dict()}, tmp_path / "theirs.pth")
    options = ("--images", folder, "--size", 32, "--mean", "imagenet", "--std", "imagenet", "--steps", 1)
    code, said, err = answer(capsys, tmp_path / "theirs.pth", *options, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "nothing to hold it against" in said


def test_few_images_are_refused(capsys, weights, folder, tmp_path):
    for number in range(16):
        shutil.copy(folder / f"{number:02d}.png", tmp_path)
    code, _, err = answer(
        capsys, weights, "--images", tmp_path, "--arch", "study_stem4", "--suspect", weights, "--steps", 1
    )
    assert code == 2
    assert "16 images are too few for --suspect; allowed: 17 or more" in err
    (tmp_path / "00.png").unlink()
    code, _, err = answer(capsys, weights, "--images", tmp_path, "--arch", "study_stem4")
    assert code == 2
    assert "has 15 readable images; allowed: 16 or more" in err


def test_the_verdict_names_the_number_the_threshold_and_what_it_means():
    limit = Threshold(0.2, 0.05, 8)
    words = verdict(report(0.1, limit))
    assert "takes 10.0 % of the image" in words
    assert "SUSPICIOUS (threshold 20.0 %, from 8 clean encoders, of which 5% fall below)" in words
    assert "Not suspicious (threshold 20.0 %" in verdict(report(0.3, limit))
    assert [report(size, limit).suspicious for size in (0.1, 0.3)] == [True, False]
    assert report().suspicious is None
    never = replace(report().found, reached=False, size=1.0)
    assert "No trigger was found" in verdict(report(found=never))


def test_scores_of_different_sizes_do_not_go_together():
    found = clean_scores_of([report(0.3), report(0.2)])
    assert found == CleanScores(InversionConfig(), 1000, 100, (0.3, 0.2))
    with pytest.raises(UsageError, match="2 sizes or settings"):
        clean_scores_of([report(), report(parameters=7)])


def test_at_most_a_hundred_images_are_used(images):
    many = images.repeat(4, 1, 1, 1)
    assert len(chosen(many, 0)) == 100
    assert torch.equal(chosen(images, 0), images)


def test_the_function_gives_what_the_command_says(weights, folder):
    settings = Settings(Kind("study_stem4"), inversion=InversionConfig(steps=1, starts=0), device="cpu")
    found = inspect(weights, folder, settings)
    assert (found.images, found.threshold, found.audited) == (20, None, ())
