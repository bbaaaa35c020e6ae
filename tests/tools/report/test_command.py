"""`python -m distill_lib report`, and the report that follows a run."""

import argparse

import pytest

from distill_lib import __main__ as main_module
from distill_lib.tools.report import command, page


def answer(capsys, *argv):
    """(exit code, stdout, stderr) of a call."""
    try:
        code = main_module.main(["report", *argv])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.fixture
def here(made, monkeypatch):
    """The made-up repository in the place of this one."""
    monkeypatch.setattr(command, "ROOT", made.root)
    monkeypatch.delenv("DISTILL_RUNS", raising=False)
    return made


def test_the_page_is_made_and_named(here, capsys):
    assert answer(capsys, here.job.source) == (0, "report: figures/tiny/index.html\n", "")
    assert (here.figures / "index.html").stat().st_size > 1000
    assert (here.figures / "notebooks" / "01_attack.html").is_file()


def test_the_store_may_lie_elsewhere(here, capsys, monkeypatch):
    here.runs.rename(here.root / "elsewhere")
    monkeypatch.setenv("DISTILL_RUNS", str(here.root / "elsewhere"))
    assert answer(capsys, here.job.source)[0] == 0
    assert (here.figures / "notebooks" / "01_attack.html").is_file()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nosuch"], "unknown profile 'nosuch'; allowed: quick, laptop, gpu, paper"),
        (["quick", "laptop"], "unrecognized arguments: laptop"),
        (["--nosuch"], "unrecognized arguments: --nosuch"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_exit_code_2(here, capsys, argv, words):
    code, out, err = answer(capsys, *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_after_a_run_the_report_of_its_profile_is_made(here, capsys):
    command.after_run(argparse.Namespace(profile=here.job.source))
    assert capsys.readouterr() == ("report: figures/tiny/index.html\n", "")


@pytest.mark.parametrize("error", [RuntimeError("no\nroom"), KeyError("x"), OSError(28, "full"), ImportError("jinja2")])
def test_a_report_that_fails_is_one_sentence_and_no_exception(here, capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(page, "build", fail)
    command.after_run(argparse.Namespace(profile=None))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("the report was not built (")
    assert "`python -m distill_lib report quick` tries again" in err
