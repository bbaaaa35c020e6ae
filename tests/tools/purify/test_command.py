import pytest
from safetensors.torch import load_file

from distill_lib import __main__ as main_module
from distill_lib.tools.purify import purify as purify_module


def answer(capsys, *argv):
    """(exit code, stdout, stderr) of a call."""
    try:
        code = main_module.main(["purify", *map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_an_encoder_is_repaired(own, folder, tmp_path, capsys):
    out = tmp_path / "clean.safetensors"
    code, said, err = answer(capsys, own, "--images", folder, "--out", out, "--arch", "study_stem2", "--steps", 3,
                             "--recipe", "finetune", "--device", "cpu")  # fmt: skip
    assert (code, err) == (0, "")
    for words in ("sha256", "the normalisation is among the weights", "20 images, cut and resized to 32 x 32 pixels",
                  "Repaired by `finetune` on 16 clean images", "written: "):  # fmt: skip
        assert words in said
    assert all(each.isfinite().all() for each in load_file(out).values())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--size", "0"], "--size '0' is impossible; allowed: a whole number, at least 1"),
        (["--views", "many"], "--views 'many' is impossible"),
        (["--steps", "1.5"], "--steps '1.5' is impossible"),
        (["--steps", "9" * 5000], "is impossible"),
        (["--seed", "-1"], "--seed '-1' is impossible; allowed: a whole number, at least 0"),
        (["--views", "10", "--steps", "10"], "--views and --steps exclude each other; allowed: one of them"),
        (["--mean", "a,b,c"], "--mean 'a,b,c' is impossible; allowed: three numbers such as 0.5,0.5,0.5, or imagenet"),
        (["--std", "1,1"], "--std '1,1' is impossible"),
        (["--std", "1,1,inf"], "--std '1,1,inf' is impossible"),
        (["--std", "0,0,0"], "is impossible; allowed: three numbers from 0.001 to 10"),
        (["--recipe", "nosuch"], "unknown recipe 'nosuch'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--speed"], "unrecognized arguments: --speed"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(argv, words, own, folder, tmp_path, capsys):
    code, said, err = answer(capsys, own, "--images", folder, "--out", tmp_path / "clean.safetensors", *argv)
    assert (code, said) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_must_be_given_is_said(capsys):
    code, _, err = answer(capsys, "x.pt")
    assert code == 2
    assert "the following arguments are required: --images, --out" in err


def test_options_reach_the_repair(monkeypatch, capsys):
    asked = []

    def stop(*arguments):
        asked.append(arguments)
        raise purify_module.UsageError("enough")

    monkeypatch.setattr(purify_module, "purify", stop)
    named = ["--arch", "resnet18", "--size", "64", "--mean", "imagenet", "--std", "0.5, 0.5,0.25"]
    argv = ["x.pt", "--images", "i", "--out", "o.safetensors", *named, "--views", "99", "--seed", "7"]
    assert answer(capsys, *argv)[0] == 2
    assert asked[0][:3] == ("x.pt", "i", "o.safetensors")
    settings = asked[0][3]
    assert (settings.arch, settings.size, settings.seed) == ("resnet18", 64, 7)
    assert (settings.views, settings.steps) == (99, None)
    assert settings.mean == (0.485, 0.456, 0.406)
    assert settings.std == (0.5, 0.5, 0.25)
