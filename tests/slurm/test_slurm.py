"""`cluster` on a real Slurm of two nodes: what is lost comes back, and nothing is made twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
HELD = ("--extra=--begin=now+1hour",)  # so that jobs wait in the queue


def gate(name):
    """Shell words that wait for a file."""
    return f"until [ -e {name} ]; do sleep 0.1; done"


def test_two_nodes_with_two_gpus_come_up_in_ten_seconds(slurm, limited, attacked):
    assert slurm.seconds < 10
    nodes = limited.output("sinfo", "-h", "-N", "-p", "main", "-o", "%N %G").splitlines()
    assert nodes == ["n1 gpu:2", "n2 gpu:2"]


def test_a_table_runs_to_its_end_and_once(study):
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": [], "f": ["e", "d"]}
    study.write(**{name: {"needs": of, "run": f"ls {' '.join(of)}"} for name, of in needs.items()})
    assert study.submit() == 6
    study.ended()
    code, out, _ = study.run("status")
    assert (code, out) == (0, "toy: 6 jobs: 6 done, 0 running, 0 pending, 0 failed, 0 missing\n")
    assert study.once()
    assert study.submit() == 0


def test_four_gpu_jobs_get_a_device_each(study):
    each = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES >gpu.{0}; until [ $(ls gpu.* | wc -l) = 4 ]; do sleep 0.1; done"
    study.write(**{f"j{number}": {"run": each.format(number), "gpus": 1} for number in range(4)}).submit()
    study.ended()
    devices = {path.read_text().strip() for path in study.folder.glob("gpu.*")}
    assert devices == {"n1 0", "n1 1", "n2 0", "n2 1"}
    assert study.once()


def test_scancel_takes_the_descendants_only_and_submitting_again_finishes(study):
    study.write(
        a={"run": gate("go")}, b={"needs": ["a"]}, c={"needs": ["b"]}, x={}, y={"needs": ["x"]}, z={"needs": ["y", "c"]}
    ).submit()
    study.until("a", "RUNNING")
    study.output("scancel", study.number("a"))
    study.ended()
    states = {name: state for name, (state, _) in study.states().items()}
    assert states == {name: "COMPLETED" if name in "xy" else "CANCELLED" for name in "abcxyz"}
    code, out, _ = study.run("status")
    assert code == 0
    assert "missing  a: cancelled" in out
    assert "missing  c: not run: it needs b, which is missing" in out
    (study.folder / "go").touch()
    assert study.submit() == 4
    study.ended()
    assert study.once()


def test_a_failure_is_told_with_its_log_and_mended(study):
    study.write(a={"run": "echo no luck; [ -e mended ]"}, b={"needs": ["a"]}, c={})
    study.submit()
    study.ended()
    code, out, _ = study.run("status")
    assert code == 1
    assert "1 done, 0 running, 0 pending, 1 failed, 1 missing" in out
    assert "failed   a: the command ended with code 1: no luck" in out
    log = next(line.split("log: ")[1] for line in out.splitlines() if "log: " in line)
    assert Path(log).read_text() == "no luck\n"
    assert "missing  b: not run: it needs a, which failed" in out
    (study.folder / "mended").touch()
    assert study.submit() == 2
    study.ended()
    assert study.once()
    assert study.run("status")[0] == 0


def test_a_job_that_waits_for_a_failed_one_is_replaced_before_slurm_cancels_it(study):
    study.write(a={"run": "[ -e mended ]"}, b={"needs": ["a"]}).submit()
    study.until("a", "FAILED")
    (study.folder / "mended").touch()
    assert 1 <= study.submit() <= 2  # Slurm may have been quicker
    study.ended()
    if not study.table.finished(study.table.job("b")):  # it was, while the command looked
        study.submit()
        study.ended()
    assert study.once()


def test_requeue_goes_on(study):
    study.write(a={"run": f"echo attempt >>attempts; {gate('go')}"}, b={"needs": ["a"]}).submit()
    study.wait((study.folder / "attempts").exists)
    number = study.number("a")
    study.output("scontrol", "requeue", number)
    study.wait(lambda: (study.folder / "attempts").read_text() == "attempt\n" * 2)
    assert study.submit() == 0
    (study.folder / "go").touch()
    study.ended()
    assert study.number("a") == number
    assert study.once()


def test_submit_killed_halfway_and_run_again_leaves_no_duplicates(study):
    study.write(**{f"j{number}": {} for number in range(120)})
    names = set(study.names.values())
    for least in (5, 40):
        process = study.start("submit", *HELD)
        study.wait(lambda least=least: len(study.slurm.jobs(names)) >= least)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    left = 120 - len(study.slurm.jobs(names))
    assert 0 < left < 80
    assert study.submit(*HELD) in (left, left - 1)  # one was on its way
    found = [name for _, name, *_ in study.slurm.jobs(names)]
    assert (len(found), set(found)) == (120, names)
    assert study.run("cancel")[1].startswith("cancelled 120 jobs of toy")


def test_two_submits_at_once_make_one_set_and_cancel_takes_it_alone(study):
    foreign = study.output("sbatch", "--parsable", "--begin=now+1hour", "-o", "/dev/null", "--wrap", "true").strip()
    study.write(**{f"j{number}": {"needs": [f"j{number - 1}"] if number else []} for number in range(30)})
    both = [study.start("submit", *HELD) for _ in range(2)]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(int(out[out.index("submitted ") :].split()[1]) for out in answers) == [0, 30]
    names = set(study.names.values())
    assert sorted(name for _, name, *_ in study.slurm.jobs(names)) == sorted(names)
    assert study.run("cancel")[0] == 0
    assert {state for *_, state, _ in study.slurm.jobs(names)} == {"CANCELLED"}
    assert [state for number, _, state, _ in study.slurm.jobs() if number == foreign] == ["PENDING"]
    study.output("scancel", foreign)


def test_doctor_tries_the_lock_from_two_nodes(study):
    _, out, error = study.write(a={"gpus": 1}).run("doctor")
    assert error == ""
    assert out.splitlines()[0] == "ok  partition: 'main' has 2 nodes, at most 2 GPUs on one; each job fits"
    assert "ok  store: n1: writes to it\nok  store: n2: writes to it\nok  lock: n2 could not take the lock" in out
    assert "ok  GPU: n1: Slurm gave device 0" in out
    assert out.splitlines()[-1][4:].startswith("torch: n1: 2.")


def test_the_script_of_the_scale_counts_submissions(study, tmp_path):
    script = study.repository / "scripts" / "cluster_scale.py"
    words = ["--jobs", "20", "--many", "30", "--snakemake", "", "--out", str(tmp_path / "scale.json")]
    environment = {**os.environ, "PYTHONPATH": str(study.repository)}
    assert "sbatch_calls_again" in study.output(sys.executable, str(script), *words, env=environment)
    figures = json.loads((tmp_path / "scale.json").read_text())["figures"]
    assert (figures["sbatch_calls"], figures["sbatch_calls_again"]) == (20, 0)
    assert 0 < figures["dry_run_s"] < 30


@pytest.mark.parametrize(
    ("wants", "words", "said"),
    [
        ({"gpus": 3}, (), "job 'a' wants 3 GPUs of one node; partition 'main' has at most 2; allowed: another"),
        ({}, ("--partition", "gpux"), "unknown partition 'gpux'; allowed: main, short"),
        (
            {"minutes": 11},
            ("--partition=short",),
            "job 'a' wants 11 minutes; partition 'short' has at most 10; allowed: ",
        ),
        ({}, ("--extra=--gres=gpu:9",), "nothing was submitted: for job 'ok', sbatch: Batch job submission failed: "),
    ],
)
def test_wrong_wants_submit_nothing(study, wants, words, said):
    study.write(ok={}, a={"needs": ["ok"], **wants})
    code, out, error = study.run("submit", *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(said)
    assert all(state == "FAILED" for _, _, state, _ in study.slurm.jobs(set(study.names.values())))  # refused


def test_the_controller_is_down(study, monkeypatch, tmp_path):
    text = Path(study.slurm.settings).read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort="))
    (tmp_path / "slurm.conf").write_text(text.replace(port, "SlurmctldPort=1"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    code, out, error = study.write(a={}).run("submit")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "Unable to contact slurm controller" in error


def test_what_ran_on_a_lost_node_and_what_needs_it_finish_on_the_other(study):
    study.write(
        a={"run": f"echo $SLURMD_NODENAME >>nodes; {gate('go')}"}, b={"needs": ["a"]}, c={"needs": ["b"], "gpus": 1}
    )
    study.output("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=busy")
    study.submit()
    study.wait(lambda: (study.folder / "nodes").exists() and (study.folder / "nodes").read_text() == "n1\n")
    study.output("scontrol", "update", "NodeName=n2", "State=RESUME")
    study.slurm.lose("n1")
    try:
        (study.folder / "go").touch()
        study.ended(120)
        assert study.states() == dict.fromkeys("abc", ("COMPLETED", "n2"))
        assert (study.folder / "nodes").read_text().split() == ["n1", "n2"]
        assert study.once()
    finally:
        study.slurm.start("n1")


@pytest.mark.timeout(600)
def test_a_failed_notebook_is_kept_and_told_and_all_tables_are_those_of_a_plain_run(attacked, copy):
    attacked.ended(300)
    code, out, _ = attacked.run("status")
    assert code == 1
    assert "0 pending, 1 failed, 0 missing" in out
    assert "failed   01_attack: cell" in out
    assert "RuntimeError: broken; kept: " in out
    kept = Path(out.split("; kept: ")[1].splitlines()[0])
    cells = json.loads(kept.read_text())["cells"]
    assert any(cell.get("outputs") for cell in cells[:-1])
    assert "far" in json.dumps(cells[-1].get("outputs"))
    attacked.notebook.write_text(attacked.whole)
    assert attacked.submit() == 1
    copy.plain()
    attacked.ended(200)
    assert attacked.run("status")[0] == 0
    assert attacked.tables() == copy.tables()
    assert b"attacked" in copy.tables()["distillation.csv"]
    makes = [tuple(line.split()[1:3]) for line in (attacked.runs / "makes.log").read_text().splitlines()]
    assert len(makes) == len(set(makes)) > 5


@pytest.mark.timeout(400)
def test_a_time_limit_is_told_and_bars_what_needs_it(limited):
    limited.ended(180)
    code, out, _ = limited.run("status")
    assert code == 1
    assert "1 done, 0 running, 0 pending, 1 failed, 1 missing" in out
    assert "failed   long: time limit (submit again" in out
    log = next(line.split("log: ")[1] for line in out.splitlines() if "log: " in line)
    assert "DUE TO TIME LIMIT" in Path(log).read_text()  # which stays when Slurm has forgotten
    assert "missing  after: not run: it needs long, which failed" in out


def test_down_leaves_nothing(slurm, tmp_path):
    here = os.path.dirname(__file__)
    settings = subprocess.run([f"{here}/up.sh", str(tmp_path / "s"), "1"], check=True, capture_output=True, text=True)
    environment = {**os.environ, "SLURM_CONF": settings.stdout.strip().split("=", 1)[1]}
    subprocess.run(["sbatch", "-o", "/dev/null", "--wrap", f"sleep 7{os.getpid()}"], env=environment, check=True)
    time.sleep(2.5)
    running = f"sleep 7{os.getpid()}"
    assert running in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert subprocess.run([f"{here}/down.sh", str(tmp_path / "s")]).returncode == 0
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert running not in left
    assert str(tmp_path / "s") not in left
    assert not (tmp_path / "s").exists()
