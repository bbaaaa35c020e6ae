import json
import signal

import pytest

from distill_lib import __main__ as main_module


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A table with a job that succeeds and one that fails; signals are as before afterwards."""
    monkeypatch.setenv("DISTILL_RUNS", str(tmp_path / "runs"))
    jobs = [{"name": "good", "command": ["true"]}, {"name": "bad", "command": ["false"], "needs": ["good"]}]
    (tmp_path / "t.json").write_text(json.dumps({"name": "t", "jobs": jobs}))
    before = signal.getsignal(signal.SIGTERM)
    yield str(tmp_path / "t.json")
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["good"], 0, "good: done"),
        (["bad"], 1, "bad: FAILED: the command ended with code 1"),
        (["worse"], 2, "unknown job 'worse' of table 't'; allowed: good, bad"),
        (["good", "--seeds", "0-x"], 2, "--seeds '0-x' is not a list of seeds"),
        (["good", "--seeds", "1"], 2, "seeds [1] mean nothing to"),
        (["good", "--data-dir", "/no/such"], 2, "--data-dir '/no/such' is not a folder"),
    ],
)
def test_a_job_s_code_says_what_became_of_it(source, words, code, said, capsys):
    assert main_module.main(["job", source, *words]) == code
    found = capsys.readouterr()
    assert said in found.out + found.err
    assert (found.err.count("\n") == 1) == (code > 0)


def test_a_source_that_is_none(capsys):
    assert main_module.main(["job", "/no/such.json", "a"]) == 2
    assert capsys.readouterr().err == "'/no/such.json' is no JSON table that can be read (FileNotFoundError)\n"
