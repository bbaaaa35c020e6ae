import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study import execute, runner
from distill_lib.study.display import Display
from distill_lib.study.jobs import Job
from distill_lib.study.runner import Place

PACKAGE = str(Path(runner.__file__).parents[2])
INFORM = """
import json, os, sys
from ipykernel.connect import get_connection_info
import distill_lib
more = {
    "transport": json.loads(get_connection_info())["transport"],
    "python": sys.executable, "cwd": os.getcwd(), "library": distill_lib.__file__,
    "data": os.environ["DISTILL_DATA"], "runs": os.environ["DISTILL_RUNS"], "figures": ["figures/a.png"],
}"""
FIGURES = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots(layout="constrained")
ax.set_title("two\\nlines")
fig"""
SAVE = """
os.makedirs("figures", exist_ok=True)
fig.savefig("figures/a.png")
open("figures/made", "a").write("x")"""
BAR = "from tqdm.auto import tqdm\nfor i in tqdm(range(3)):\n    pass"
REPORT = """
import os, time
from distill_lib.study.progress import Reporter
Reporter(os.environ["DISTILL_PROGRESS"]).report("pretrain", 5, 10, {"loss": 0.5})
time.sleep(0.6)"""


def quiet():
    return Display(io.StringIO(), every=0)


def statuses(outcomes):
    return {outcome.job.name: outcome.status for outcome in outcomes}


def cells(notebook):
    return json.loads(notebook.read_text())["cells"]


@pytest.fixture(scope="module")
def finished(shared_repository, tmp_path_factory):
    """A notebook that ran, with another kernel installed as `python3`: its repository, outcome, display."""
    write = shared_repository.write
    write("01_good", INFORM, FIGURES, BAR, REPORT, SAVE, shared_repository.result)
    decoy = tmp_path_factory.mktemp("jupyter")
    (decoy / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "decoy", "language": "python"}
    (decoy / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    place = Place(shared_repository.root, shared_repository.runs, env={"DISTILL_DATA": "/some/data"})
    job = Job("01_good", "01_good", {"seeds": (3, 4), "flag": False}, makes=("figures/a.png",))
    (shared_repository.runs / "failed").mkdir(parents=True)
    for name in ("01_good.ipynb", "01_good.json", "02_other.ipynb"):
        (shared_repository.runs / "failed" / name).write_text("of an earlier run")
    display = quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(decoy))
        patch.setenv("MPLBACKEND", "svg")
        outcome = runner.run([job], place, display)[0]
    folder = shared_repository.runs / "notebooks" / outcome.key
    return shared_repository, place, outcome, display.stream.getvalue(), folder


def test_a_finished_job_is_kept_with_its_result(finished):
    _, _, outcome, shown, folder = finished
    assert outcome.status == "done", outcome.message
    assert sorted(p.name for p in folder.iterdir()) == ["01_good.ipynb", "job.json", "result.json"]
    assert outcome.record["outputs"].keys() == {"figures/a.png"}
    assert outcome.record["wall_s"] > 0
    assert outcome.record["peak_rss_mb"] > 20
    assert "[1/1] 01_good: done in " in shown


def test_a_job_that_succeeds_is_no_longer_kept_as_failed(finished):
    assert not list((finished[0].runs / "failed").glob("01_good*"))
    assert (finished[0].runs / "failed" / "02_other.ipynb").exists()


def test_parameters_arrive_as_they_were(finished):
    result = json.loads((finished[4] / "result.json").read_text())
    assert (result["seeds"], result["flag"], result["profile"]) == ([3, 4], False, "quick")


def test_the_kernel_is_ours(finished):
    repository, _, _, _, folder = finished
    result = json.loads((folder / "result.json").read_text())
    assert result["transport"] == "ipc"
    assert result["python"] == sys.executable
    assert result["cwd"] == str(repository.root)
    assert result["library"].startswith(PACKAGE)
    assert (result["data"], result["runs"]) == ("/some/data", str(repository.runs))


def test_a_figure_is_stored_once_and_a_bar_not_at_all(finished):
    outputs = [cell["outputs"] for cell in cells(finished[4] / "01_good.ipynb")]
    pictures = [output for one in outputs for output in one if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert "%|" not in json.dumps(outputs)


def test_progress_is_shown(finished):
    assert "[1/1] 01_good: pretrain 5/10, loss 0.5\n" in finished[3]


def test_nothing_is_left_behind(finished):
    repository = finished[0]
    assert not list((repository.runs / "tmp").iterdir())
    assert {p.name for p in repository.root.iterdir()} == {"notebooks", "runs", "figures"}


def test_what_is_done_is_skipped_until_something_changes(finished):
    repository, place, outcome, _, folder = finished
    figure, job = repository.root / "figures" / "a.png", outcome.job

    def done(job=job, place=place):
        return bool(runner.plan([job], place)[0].record)

    assert done()
    assert statuses(runner.run([job], place, quiet())) == {"01_good": "unchanged"}
    assert (repository.root / "figures" / "made").read_text() == "x"
    assert done(Job("01_good", "01_good", {**job.parameters, "seeds": [3, 4]}, makes=job.makes))
    assert not done(Job("01_good", "01_good", {**job.parameters, "seeds": [3]}, makes=job.makes))
    assert not done(place=Place(place.root, place.runs, lambda job: {"code": 2}))
    drawn = figure.read_bytes()
    figure.write_bytes(b"drawn for other seeds")
    assert not done()
    figure.unlink()
    assert not done()
    figure.write_bytes(drawn)
    result = (folder / "result.json").read_text()
    (folder / "result.json").unlink()
    assert not done()
    (folder / "result.json").write_text(result)
    assert done()


def test_what_another_process_ran_meanwhile_is_not_run_again(finished, monkeypatch):
    _, place, outcome, _, _ = finished
    planned = dataclasses.replace(runner.plan([outcome.job], place)[0], record=None)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert runner._one(planned, [], lambda text: None).message == "unchanged: another process ran it"


def test_the_key_is_of_the_cells_and_not_of_outputs_or_device(repository):
    path = repository.write("a", "1 + 1", parameters='device: str = "cpu"')
    place = Place(repository.root, repository.runs)

    def key(**parameters):
        return runner.plan([Job("a", "a", parameters)], place)[0].key

    before = key(device="cpu")
    assert key(device="cuda") == before
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "2"}]
    path.write_text(json.dumps(notebook))
    assert key(device="cpu") == before
    notebook["cells"][1]["source"] = "1 + 2"
    path.write_text(json.dumps(notebook))
    assert key(device="cpu") != before


@pytest.fixture(scope="module")
def failed(tmp_path_factory, shared_repository):
    """Notebooks that fail, each in its way, and one that needs one of these: outcomes by name."""
    write, result = shared_repository.write, shared_repository.result
    write("raises", "x = 1", "# a comment\ny = x / 0  # here", result)
    write("dies", "x = 1", "import os\nos.kill(os.getpid(), 9)", "x = 2", result)
    write("sleeps", "import time\ntime.sleep(60)", "x = 2", result)
    write("leaves", "import sys\nsys.exit()", result)
    write("needs", result)
    jobs = [*(Job(name, name) for name in ("raises", "dies", "leaves")), Job("needs", "needs", needs=("dies",))]
    where = shared_repository.root, shared_repository.runs
    outcomes = runner.run(jobs, Place(*where), quiet())
    outcomes += runner.run([Job("sleeps", "sleeps")], Place(*where, timeout=2), quiet())
    return {outcome.job.name: outcome for outcome in outcomes}


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("raises", 3, "cell 3 (y = x / 0  # here) failed: ZeroDivisionError: division by zero"),
        ("dies", 4, "cell 3 (import os): the kernel died"),
        ("sleeps", 5, "cell 2 (import time): took more than 2 s"),
        ("leaves", 6, "the notebook ended, but its last cell did not write its result file"),
    ],
)
def test_each_failure_is_told_from_the_others_and_kept(failed, shared_repository, name, code, message):
    outcome, kept = failed[name], shared_repository.runs / "failed"
    assert outcome.status == "failed"
    assert outcome.message.startswith(f"FAILED (code {code}): {message}")
    assert f"{kept}/{name}.ipynb" in outcome.message
    assert cells(kept / f"{name}.ipynb")
    record = json.loads((kept / f"{name}.json").read_text())
    assert execute.CODES[record["reason"]] == code
    assert record["message"].startswith(message)
    assert not (shared_repository.runs / "notebooks" / outcome.key).exists()


@pytest.mark.parametrize(("name", "failing"), [("dies", 3), ("sleeps", 2)])
def test_a_kept_notebook_says_where_it_stopped(failed, shared_repository, name, failing):
    states = [c["metadata"]["papermill"]["status"] for c in cells(shared_repository.runs / "failed" / f"{name}.ipynb")]
    assert states == ["completed"] * (failing - 1) + ["failed"] + ["pending"] * (len(states) - failing)


def test_what_needs_a_failed_job_is_not_run(failed):
    assert failed["needs"].status == "skipped"
    assert failed["needs"].message == "not run: it needs dies"


def test_a_usage_error_in_a_cell_is_raised_as_one(repository):
    repository.write("a", "from distill_lib.errors import UsageError\nraise UsageError('unknown loss x')")
    with pytest.raises(UsageError, match=r"^unknown loss x$"):
        runner.run([Job("a", "a")], Place(repository.root, repository.runs), quiet())


@pytest.mark.parametrize(
    ("write", "parameters", "message"),
    [
        ({}, {"sedes": [1]}, "unknown parameter of a.ipynb 'sedes'; allowed: profile, seeds, flag"),
        ({"tags": ()}, {}, "0 cells tagged 'parameters'"),
        ({}, {"flag": "false"}, "parameter 'flag' of a.ipynb is 'false'"),
        ({"parameters": "n: int = 1\ntwice: int = 2 * n"}, {"n": 2}, "annotated literals"),
    ],
)
def test_wrong_parameters_stop_all_before_anything_starts(repository, monkeypatch, write, parameters, message):
    repository.write("good", repository.result)
    repository.write("a", repository.result, **write)
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(UsageError, match=message):
        runner.run([Job("good", "good"), Job("a", "a", parameters)], Place(repository.root, repository.runs), quiet())
    assert not repository.runs.exists()


def test_a_listed_file_that_is_missing_is_a_failure(repository):
    result = repository.root / "result.json"
    job = {"root": str(repository.root), "makes": ["figures/b.png"]}
    for text in (None, "", "[]", '{"figures": 3}'):
        if text is not None:
            result.write_text(text)
        with pytest.raises(execute.Failed, match="did not write its result file"):
            execute._outputs(job, result)
    result.write_text('{"figures": ["figures/a.png"], "tables": ["t.csv"]}')
    with pytest.raises(execute.Failed, match=r"without making figures/a.png, t.csv, figures/b.png"):
        execute._outputs(job, result)


PARENT = """
import sys
from pathlib import Path
from distill_lib.study import command, runner
from distill_lib.study.jobs import Job
command.end_on_sigterm()
runner.run([Job("a", "a")], runner.Place(Path(sys.argv[1]), Path(sys.argv[1]) / "runs"))
"""
SLEEPER = "import os, time\nopen('pids', 'w').write(f'{os.getpid()} {os.getppid()}')\ntime.sleep(120)"


def alive(pid):
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    if Path("/proc/self").exists():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_kernel_outlives_the_run(repository, number):
    repository.write("a", SLEEPER)
    command = [sys.executable, "-c", PARENT, str(repository.root)]
    parent = subprocess.Popen(
        command,
        env=execute.importing(),
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = repository.root / "pids"
    until = time.monotonic() + 30
    while not (pids.exists() and pids.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    kernel, worker = map(int, pids.read_text().split())
    os.kill(parent.pid, number)
    parent.communicate(timeout=15)
    until = time.monotonic() + 10
    while (alive(kernel) or alive(worker)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(kernel)
    assert not alive(worker)
    assert parent.returncode in {signal.SIGTERM: (143,), signal.SIGINT: (-2, 130), signal.SIGKILL: (-9,)}[number]
