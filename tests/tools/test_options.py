import argparse

import pytest

from distill_lib.errors import UsageError
from distill_lib.tools.options import Live, add_kind, kind_of


def said(*argv):
    parser = argparse.ArgumentParser()
    add_kind(parser)
    return kind_of(parser.parse_args(argv))


def test_what_is_not_said_is_left_to_the_weights():
    assert said() == {"arch": None, "size": None, "mean": None, "std": None}


def test_a_normalisation_is_three_numbers_or_a_name():
    found = said("--arch", "resnet18", "--size", "64", "--mean", "0.1, 0.2,0.3", "--std", "cifar10")
    assert found == {"arch": "resnet18", "size": 64, "mean": (0.1, 0.2, 0.3), "std": (0.2023, 0.1994, 0.2010)}


@pytest.mark.parametrize("text", ["0.5", "a,b,c", "1,2,inf", ""])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=f"--mean {text!r} is impossible; allowed: three numbers"):
        said("--mean", text)


def test_progress_is_shown_with_the_time_left(capsys):
    live = Live()
    live.display.every = 0.0
    live.watch("distilling with at").report(5, 10, {"at": 0.25, "nt_xent": 0.5, "epoch": 1.0})
    live.watch("reading images").report(3, 20, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("distilling with at 5/10, epoch 1/2, loss 0.75")
    assert lines[0].endswith("left")
    assert lines[1].startswith("reading images 3/20, ")
