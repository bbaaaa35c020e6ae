import errno
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.study import store
from distill_lib.study.store import Store

CONFIG = {"lr": 0.1, "steps": 3, "name": "x", "deep": {"list": [1, 2.0, None, True]}}


def compute(work):
    work.report(1, 2, {"loss": 0.5})
    (work.folder / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
    return {"w": torch.arange(3.0)}, {"acc": 12.5}


class Counting:
    """Counts computations across processes: one file each."""

    def __init__(self, folder, seconds=0.0):
        self.folder, self.seconds = folder, seconds

    def __call__(self, work):
        (self.folder / f"made-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        return compute(work)

    @property
    def count(self):
        return len(list(self.folder.glob("made-*")))


def files_of(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_key_is_a_hash_of_all_and_of_nothing_else():
    first = store.key("encoder", 1, CONFIG)
    assert first == store.key("encoder", 1, dict(reversed(CONFIG.items())))
    assert len(first) == 16
    assert int(first, 16) >= 0
    others = [
        store.key("head", 1, CONFIG),
        store.key("encoder", 2, CONFIG),
        store.key("encoder", 1, {**CONFIG, "lr": math.nextafter(0.1, 1)}),
        store.key("encoder", 1, {**CONFIG, "steps": 3.0}),
        store.key("encoder", 1, {**CONFIG, "name": None}),
    ]
    assert len({first, *others}) == 6
    assert store.key("k", 1, {"a": (1, 2)}) == store.key("k", 1, {"a": [1, 2]})


def test_key_is_the_same_in_another_process():
    code = f"from distill_lib.study import store; print(store.key('encoder', 1, {CONFIG!r}))"
    assert os.popen(f'{sys.executable} -c "{code}"').read().strip() == store.key("encoder", 1, CONFIG)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1, 2}, b"x", Path("x"), np.float32(1), torch.tensor(1.0), {1: "a"}, object()],
)
def test_key_refuses_what_json_cannot_hold(value):
    with pytest.raises(TypeError, match=r"config\.deep\.x is .* not a JSON value"):
        store.digest({"deep": {"x": value}})


def test_make_computes_once_and_finds_afterwards(tmp_path):
    counting = Counting(tmp_path)
    made = Store(tmp_path / "runs").make("encoder", 1, CONFIG, counting)
    found = Store(tmp_path / "runs").make("encoder", 1, CONFIG, counting)
    assert counting.count == 1
    assert made.folder == found.folder == tmp_path / "runs" / "encoder" / store.key("encoder", 1, CONFIG)
    assert found.config == CONFIG
    assert found.metrics == {"acc": 12.5}
    assert torch.equal(found.weights()["w"], torch.arange(3.0))
    assert found.log()["loss"].tolist() == [0.5, 0.25]
    log = (tmp_path / "runs" / "makes.log").read_text().splitlines()
    assert len(log) == 1
    assert log[0].split()[1:3] == ["encoder", made.key]
    assert not list((tmp_path / "runs" / "tmp").iterdir())
    assert not list((tmp_path / "runs" / "partial").iterdir())


def test_the_same_artefact_is_the_same_bytes_but_for_its_cost(tmp_path):
    folders = [Store(tmp_path / name).make("encoder", 1, CONFIG, compute).folder for name in "ab"]
    first, second = map(files_of, folders)
    cost = first.pop(Path("cost.json")), second.pop(Path("cost.json"))
    assert first == second
    assert {"wall_s", "peak_rss_mb", "made_at", "host"} < set(json.loads(cost[0]))


def test_weights_may_share_memory_and_need_not_be_contiguous(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    artefact = Store(tmp_path).make("encoder", 1, {}, lambda work: ({"a": base, "b": base.T, "c": base}, {}))
    assert torch.equal(artefact.weights()["b"], base.T)
    assert torch.equal(artefact.weights()["c"], base)


def test_an_artefact_without_weights_has_none(tmp_path):
    artefact = Store(tmp_path).make("rates", 1, {}, lambda work: (None, {"acc": 1}))
    with pytest.raises(FileNotFoundError):
        artefact.weights()


@pytest.mark.parametrize("kind", ["", "Encoder", "a/b", "..", "tmp", "partial", "locks", "notebooks", "failed"])
def test_kinds_are_plain_names(tmp_path, kind):
    with pytest.raises(ValueError, match="no name for a kind"):
        Store(tmp_path).make(kind, 1, {}, compute)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "metrics.json").unlink(),
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: (folder / "weights.safetensors").write_bytes(b""),
        lambda folder: (folder / "cost.json").write_text("{"),
        lambda folder: [file.unlink() for file in folder.iterdir()],
    ],
)
def test_a_damaged_artefact_is_made_again(tmp_path, damage):
    counting = Counting(tmp_path)
    runs = Store(tmp_path / "runs")
    folder = runs.make("encoder", 1, CONFIG, counting).folder
    damage(folder)
    again = runs.make("encoder", 1, CONFIG, counting)
    assert counting.count == 2
    assert again.metrics == {"acc": 12.5}
    assert torch.equal(again.weights()["w"], torch.arange(3.0))


def test_a_failed_computation_leaves_its_checkpoint_and_nothing_else(tmp_path):
    def fails(work):
        (work.checkpoint / "state").write_text("half way")
        (work.folder / "log.csv").write_text("step\n")
        raise KeyError("x")

    def resumes(work):
        assert (work.checkpoint / "state").read_text() == "half way"
        return None, {"resumed": True}

    runs = Store(tmp_path)
    with pytest.raises(KeyError):
        runs.make("encoder", 1, CONFIG, fails)
    assert runs.find("encoder", runs.key("encoder", 1, CONFIG)) is None
    assert not (tmp_path / "encoder").exists()
    assert not list((tmp_path / "tmp").iterdir())
    assert runs.make("encoder", 1, CONFIG, resumes).metrics == {"resumed": True}
    assert not list((tmp_path / "partial").iterdir())


def _make(root, folder, seconds=0.0):
    Store(root).make("encoder", 1, CONFIG, Counting(folder, seconds))


def test_processes_never_compute_the_same_twice(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_make, args=(tmp_path / "runs", tmp_path, 0.3)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert Counting(tmp_path).count == 1
    assert len((tmp_path / "runs" / "makes.log").read_text().splitlines()) == 1


def test_a_killed_process_frees_its_lock_and_leaves_no_artefact(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_make, args=(tmp_path / "runs", tmp_path, 60))
    process.start()
    while not Counting(tmp_path).count:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert list((tmp_path / "runs" / "tmp").iterdir())
    _make(tmp_path / "runs", tmp_path)
    assert Counting(tmp_path).count == 2
    assert not list((tmp_path / "runs" / "tmp").iterdir())
    assert len((tmp_path / "runs" / "makes.log").read_text().splitlines()) == 1


def test_a_waiting_process_says_so(tmp_path):
    said = []

    class Saying:
        def report(self, stage, *_):
            said.append(stage)

    process = multiprocessing.get_context("fork").Process(target=_make, args=(tmp_path / "runs", tmp_path, 0.5))
    process.start()
    while not Counting(tmp_path).count:
        time.sleep(0.01)
    Store(tmp_path / "runs", Saying()).make("encoder", 1, CONFIG, compute)
    process.join(10)
    assert said == ["encoder, made by another process"]


def test_one_that_was_first_without_a_lock_stays(tmp_path):
    runs = Store(tmp_path)

    def overtaken(work):
        other = tmp_path / "encoder" / runs.key("encoder", 1, CONFIG)
        other.mkdir(parents=True)
        (other / "metrics.json").write_text('{"first": true}')
        return None, {"first": False}

    assert runs.make("encoder", 1, CONFIG, overtaken).metrics == {"first": True}


def test_a_store_that_is_no_folder_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UsageError, match=r"cannot write to '.*file.*'"):
            Store(root).make("encoder", 1, CONFIG, compute)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_store_still_reads(tmp_path):
    runs = Store(tmp_path / "runs")
    runs.make("encoder", 1, CONFIG, compute)
    before = files_of(tmp_path)
    for folder in [tmp_path / "runs", *(p for p in (tmp_path / "runs").rglob("*") if p.is_dir())]:
        folder.chmod(0o555)
    try:
        assert runs.make("encoder", 1, CONFIG, compute).metrics == {"acc": 12.5}
        with pytest.raises(UsageError, match="Permission denied"):
            runs.make("encoder", 2, CONFIG, compute)
        assert files_of(tmp_path) == before
    finally:
        for folder in [tmp_path / "runs", *(p for p in (tmp_path / "runs").rglob("*") if p.is_dir())]:
            folder.chmod(0o755)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_errors_of_the_file_system_are_usage_errors(tmp_path, monkeypatch, code):
    runs = Store(tmp_path)
    runs.make("encoder", 1, CONFIG, compute)
    before = files_of(tmp_path)

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=os.strerror(code)) as caught:
        runs.make("encoder", 2, CONFIG, compute)
    assert repr(str(tmp_path)) in str(caught.value)
    assert files_of(tmp_path) == before


def _with_little_space(root, big):
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # a longer write fails, as on a full disk
    try:
        Store(root).make("encoder", 2, CONFIG, big)
    except UsageError as error:
        (root / "said").write_text(str(error))
    os._exit(0)


def _big_weights(work):
    return {"w": torch.zeros(10_000)}, {}


def _big_checkpoint(work):
    (work.checkpoint / "state").write_bytes(bytes(10_000))


@pytest.mark.parametrize("big", [_big_weights, _big_checkpoint])
def test_a_full_disk_is_a_usage_error_and_earlier_artefacts_stay(tmp_path, big):
    runs = Store(tmp_path)
    runs.make("encoder", 1, CONFIG, compute)
    before = files_of(tmp_path / "encoder")
    process = multiprocessing.get_context("fork").Process(target=_with_little_space, args=(tmp_path, big))
    process.start()
    process.join(20)
    assert (tmp_path / "said").read_text().startswith(f"cannot write to {str(tmp_path)!r} (File too large")
    assert files_of(tmp_path / "encoder") == before
    assert runs.find("encoder", runs.key("encoder", 2, CONFIG)) is None


def test_an_error_of_the_computation_is_not_taken_for_the_store_s(tmp_path):
    def reads(work):
        raise PermissionError(errno.EACCES, "Permission denied", "data/train.npz")

    with pytest.raises(PermissionError):
        Store(tmp_path).make("encoder", 1, CONFIG, reads)


def test_texts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    store.write_text(tmp_path / "new" / "a.txt", "one")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        store.write_text(tmp_path / "new" / "a.txt", "two")
    assert files_of(tmp_path) == {Path("new/a.txt"): b"one"}


def test_torch_s_own_error_of_a_full_disk_is_a_usage_error(tmp_path, monkeypatch):
    def saves(work):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        Store(tmp_path).make("encoder", 1, CONFIG, saves)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(UsageError, match="No space left"):
        Store(tmp_path).make("encoder", 1, CONFIG, saves)
