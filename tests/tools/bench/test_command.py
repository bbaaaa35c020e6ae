import json

import pytest
import torch

from distill_lib import __main__ as main_module
from distill_lib.tools.bench import agreement, precision, report, setup

HARDWARE = {"cpu": "a processor", "cores": 2, "torch": "2.0"}
RESULT = {
    "hardware": HARDWARE,
    "ratios": [{"name": "simclr_step", "ratio": 3.0, "low": 2.5, "high": 3.5, "pairs": 7, "unit": "s / s"}],
    "flatness": [{"images": 10, "microseconds": 9.0, "low": 8.0, "high": 9.5, "rounds": 7}],
}


def answer(capsys, *argv):
    """(exit code, stdout, stderr) of a call."""
    try:
        code = main_module.main(["bench", *argv])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--device", "tpu"], "unknown device 'tpu'; allowed: auto, cpu, cuda"),
        (["--seconds", "0"], "--seconds '0' is impossible"),
        (["--seconds", "soon"], "--seconds 'soon' is impossible"),
        (["--seconds", "inf"], "--seconds 'inf' is impossible"),
        (["--pairs", "0"], "--pairs '0' is impossible; allowed: a whole number, at least 1"),
        (["--pairs", "-3"], "--pairs '-3' is impossible"),
        (["--pairs", "2.5"], "--pairs '2.5' is impossible"),
        (["--out", "nowhere"], "--out 'nowhere' is not a folder"),
        (["--seeds", "5"], "--seeds '5' belongs to --precision-study"),
        (["--precision-study", "--seeds", "1"], "--seeds '1' is impossible; allowed: a whole number, at least 2"),
        (["--speed"], "unrecognized arguments: --speed"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(argv, words, capsys):
    code, out, err = answer(capsys, *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_the_result_goes_where_it_was_asked_for(tiny, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setitem(setup.SETUPS, "cpu", lambda device, precision: tiny)
    monkeypatch.setattr(report, "report", lambda the, budget, say: asked.append((the, budget)) or RESULT)
    code, out, err = answer(capsys, "--device", "cpu", "--seconds", "3", "--pairs", "6", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    assert "agree on 18 loss terms" in out
    assert (asked[0][0], asked[0][1].seconds, asked[0][1].rounds) == (tiny, 3.0, 6)
    assert json.loads((tmp_path / "results/bench/cpu.json").read_text()) == RESULT
    assert {path.name for path in (tmp_path / "figures/bench").iterdir()} == {"cpu.png", "cpu.svg", "cpu.json"}
    assert json.loads((tmp_path / "figures/bench/cpu.json").read_text())["figure"] == "bench"


def test_nothing_is_timed_where_the_losses_differ(tmp_path, monkeypatch, capsys):
    def refuse(the):
        raise agreement.Disagreement("another loss")

    monkeypatch.setattr(agreement, "check", refuse)
    assert answer(capsys, "--device", "cpu", "--out", str(tmp_path)) == (1, "", "another loss\n")
    assert list(tmp_path.iterdir()) == []


def test_the_precision_study_gets_its_seeds(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(precision, "study", lambda *args: asked.append(args))
    code, _, _ = answer(capsys, "--device", "cpu", "--precision-study", "--seeds", "3", "--out", str(tmp_path))
    assert code == 0
    assert asked[0][0] == torch.device("cpu")
    assert asked[0][1] == tmp_path / "results" / "bench"
    assert asked[0][3] == 3
