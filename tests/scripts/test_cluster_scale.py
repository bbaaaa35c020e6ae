import importlib.util
import json
import sys
from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.table.load import load_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "cluster_scale.py"
COMMITTED = SCRIPT.parents[1] / "results" / "cluster" / "scale.json"


@pytest.fixture(scope="module")
def subject():
    spec = importlib.util.spec_from_file_location("cluster_scale", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_one(subject, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(subject.table(300)))
    jobs = load_table(str(tmp_path / "t.json"), runs=tmp_path / "runs").by_name
    assert len(jobs) == 300
    assert jobs["job-6"].needs == ("job-5",)
    assert jobs["job-8"].needs == ()
    assert len(jobs["job-199"].needs) == 99
    assert (jobs["job-199"].gpus, jobs["job-6"].gpus) == (0, 1)


def test_a_command_that_fails_is_an_error(subject, tmp_path):
    with pytest.raises(UsageError, match="ended with code 3: oh"):
        subject.timed([sys.executable, "-c", "import sys; sys.exit(print('oh', file=sys.stderr) or 3)"], tmp_path)
    seconds, spent, said = subject.timed([sys.executable, "-c", "print('hello')"], tmp_path)
    assert seconds > 0
    assert spent > 0
    assert said == "hello\n"


def test_the_committed_figures_keep_the_bars(subject):
    found = json.loads(COMMITTED.read_text())
    assert (found["jobs"], found["jobs_dry_run"], found["bars"]) == (1000, 10000, subject.BARS)
    figures = found["figures"]
    assert (figures["sbatch_calls"], figures["sbatch_calls_again"]) == (1000, 0)
    assert all(figures[bar] <= most for bar, most in subject.BARS.items())
    assert found["hardware"]["cpu"]
