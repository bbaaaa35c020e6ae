"""The artefact store: results found under their key, or computed once, under a lock, and renamed into place.

`root/<kind>/<key>/` holds `config.json`, `metrics.json`, perhaps `weights.safetensors` and `log.csv`, all of
which the key decides, and `cost.json` (when, where, how long). Beside them are `locks/`, `tmp/`, `partial/`
(checkpoints of unfinished work, which survive a SIGKILL) and `makes.log` (a line for each computation).
"""

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.study.cost import Meter
from distill_lib.study.progress import NullReporter

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
UNWRITABLE = FULL | {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}

# Folders of the root that hold no artefacts.
RESERVED = ("locks", "tmp", "partial", "notebooks", "failed", "cluster", "jobs", "stamps", "data")


def runs_folder(root: Path) -> Path:
    """Where the store of a repository lies: in the folder that DISTILL_RUNS names, or in its `runs`."""
    return Path(os.environ.get("DISTILL_RUNS", root / "runs")).resolve()


def plain(value: Any, where: str = "config") -> Any:
    """The value as JSON has it (tuples as lists); a TypeError names what JSON cannot hold exactly."""
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {name: plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    raise TypeError(f"{where} is {value!r} ({type(value).__name__}), not a JSON value")


def digest(value: Any) -> str:
    """The sha256 (hex) of a JSON value: names sorted, floats to the last bit; 1 and 1.0 differ."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def key(kind: str, version: int | str, config: dict[str, Any]) -> str:
    """The artefact's key, 16 hex characters, from all that can change it."""
    return digest({"kind": kind, "version": version, "config": config})[:16]


def write_text(path: Path, text: str) -> None:
    """Write by a rename, so that a reader (and a kill) sees all or nothing; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def writing(folder: Path, codes: frozenset[int] = UNWRITABLE) -> Iterator[None]:
    """Turn the errors of a read-only, full or forbidden folder into one sentence that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise
        why = f"{os.strerror(error.errno)}; what was made earlier is intact"
        raise UsageError(
            f"cannot write to {str(folder)!r} ({why}): it needs free space and write permission"
        ) from error


class Busy(Exception):
    """Another process has held a lock for longer than one had the patience to wait."""


@contextlib.contextmanager
def exclusive(
    root: Path, name: str, waiting: Callable[[], None] = lambda: None, patience: float | None = None
) -> Iterator[Path]:
    """Hold the lock `root/locks/<name>.lock`, with a temporary folder that is removed at the end.

    The folder's name holds host and process, as a process number alone is not unique on a cluster; what a
    killed process of this host left is removed. `waiting` is called where another process holds the lock.

    Raises:
        Busy: If it holds it for more than `patience` seconds from then on; None: any time.
    """
    from filelock import FileLock, Timeout

    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    with contextlib.ExitStack() as last:
        with writing(root):
            for folder in ("locks", "tmp"):
                (root / folder).mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(root / "locks" / f"{name}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                try:
                    lock.acquire(timeout=-1 if patience is None else patience)
                except Timeout:
                    raise Busy(name) from None
            last.callback(lock.release)
            for old in (root / "tmp").glob(f"{name}.{host}.*"):
                shutil.rmtree(old, ignore_errors=True)
            folder = root / "tmp" / f"{name}.{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
            folder.mkdir()
            last.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def note_made(root: Path, kind: str, key: str, wall_s: float) -> None:
    """Append a line to `makes.log`, which has one for each thing made: when, what, where, how long."""
    line = (time.strftime("%FT%T%z"), kind, key, socket.gethostname(), os.getpid(), wall_s)
    with writing(root), open(root / "makes.log", "a", encoding="utf-8") as log:  # one line, appended: atomic
        log.write(" ".join(map(str, line)) + "\n")


def place(folder: Path, destination: Path) -> None:
    """Rename a finished folder to its place; one that is there stays (some networks' locks fail)."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(folder, destination)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@dataclass(frozen=True)
class Artefact:
    """A finished result in the store."""

    kind: str
    key: str
    folder: Path

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration that the key was made from."""
        return json.loads((self.folder / "config.json").read_text())["config"]

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The numbers that `compute` returned."""
        return json.loads((self.folder / "metrics.json").read_text())

    @functools.cached_property
    def cost(self) -> dict[str, Any]:
        """What making it took: `wall_s` seconds, `peak_rss_mb`, on a GPU `peak_device_mb`, when and where.

        Earlier files have the peak of the whole process up to then, and the seconds since the last interruption.
        """
        return json.loads((self.folder / "cost.json").read_text())

    def weights(self) -> dict[str, Any]:
        """The tensors by name, on the CPU; a FileNotFoundError where the artefact has none."""
        from safetensors.torch import load_file

        return load_file(self.folder / "weights.safetensors")

    def log(self) -> Any:
        """`log.csv` as a pandas table; a FileNotFoundError where the artefact has none."""
        import pandas

        return pandas.read_csv(self.folder / "log.csv")


@dataclass(frozen=True)
class Workspace:
    """What a computation is given: a folder for its files, one for its checkpoints, a reporter, a meter."""

    kind: str
    folder: Path
    checkpoint: Path
    reporter: Any
    meter: Meter | None = None

    def kept(self) -> None:
        """Note what was taken so far, beside a checkpoint just written."""
        if self.meter:
            write_json(self.meter.path, self.meter.read())

    def report(self, step: int, steps: int, terms: dict[str, Any], stage: str | None = None) -> None:
        """Say that `step` of `steps` is done, with the loss terms; `stage` where the work has several."""
        self.reporter.report(stage or self.kind, step, steps, terms, self.kind)


Compute = Callable[[Workspace], tuple[dict[str, Any] | None, dict[str, Any]]]


class Store:
    """Artefacts under `root`; progress goes to `reporter`; `patience`: seconds to wait for another process, or None."""

    key = staticmethod(key)

    def __init__(self, root: Path | str, reporter: Any = None, patience: float | None = None) -> None:
        self.root, self.reporter, self.patience = Path(root), reporter or NullReporter(), patience

    def find(self, kind: str, key: str) -> Artefact | None:
        """The finished artefact, or None where it was never made or files of it are missing or cut short."""
        folder = self.root / kind / key
        try:
            sizes = json.loads((folder / "cost.json").read_text())["files"]
            intact = "metrics.json" in sizes and all((folder / n).stat().st_size == s for n, s in sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Artefact(kind, key, folder) if intact else None

    def make(self, kind: str, version: int | str, config: dict[str, Any], compute: Compute) -> Artefact:
        """Find the artefact, or compute it: once, whatever number of processes ask at the same time.

        Args:
            kind: The stage's name, which is also the folder's: lower case, digits, underscores.
            version: The stage's version; a change of the code that changes results raises it.
            config: All else that can change the result, as JSON values: settings, data hash, upstream keys.
            compute: Gives (weights by name or None, metrics); may leave `log.csv` in `workspace.folder`,
                and keeps what it needs to resume in the folder `workspace.checkpoint`, removed in the end.

        Raises:
            UsageError: If the store cannot be written; nothing that was there is touched.
            Busy: If another process makes it for longer than the store's patience.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", kind) or kind in RESERVED:
            raise ValueError(f"{kind!r} is no name for a kind of artefact")
        name = key(kind, version, config)
        found = self.find(kind, name)
        if not found:
            elsewhere = functools.partial(self.reporter.report, f"{kind}, made by another process", 0, 0, {}, kind)
            with exclusive(self.root, f"{kind}-{name}", elsewhere, self.patience) as folder:
                if not self.find(kind, name):
                    config = {"kind": kind, "version": version, "config": plain(config)}
                    self._compute(folder, self.root / kind / name, config, compute)
        return found or Artefact(kind, name, self.root / kind / name)

    def _compute(self, folder: Path, destination: Path, config: dict[str, Any], compute: Compute) -> None:
        kind = config["kind"]
        checkpoint = self.root / "partial" / f"{kind}-{destination.name}"
        workspace = Workspace(kind, folder, checkpoint, self.reporter, Meter(checkpoint / "cost.json"))
        with writing(self.root):
            shutil.rmtree(destination, ignore_errors=True)  # what is there is broken
            workspace.checkpoint.mkdir(parents=True, exist_ok=True)
        with writing(self.root, FULL):
            try:
                weights, metrics = compute(workspace)
            except RuntimeError as error:  # torch.save says a full disk in an error of its own
                if shutil.disk_usage(self.root).free < 2**16:
                    raise OSError(errno.ENOSPC, "full") from error
                raise
            write_json(folder / "config.json", config)
            write_json(folder / "metrics.json", metrics)
            if weights is not None:
                (folder / "weights.safetensors").write_bytes(_serialised(weights))
            sizes = {str(f.relative_to(folder)): f.stat().st_size for f in folder.rglob("*") if f.is_file()}
            cost = {**workspace.meter.read(), "made_at": time.strftime("%FT%T%z"), "host": socket.gethostname()}
            write_json(folder / "cost.json", {**cost, "files": sizes})
        with writing(self.root):
            place(folder, destination)
            note_made(self.root, kind, destination.name, cost["wall_s"])
        shutil.rmtree(workspace.checkpoint, ignore_errors=True)


def _serialised(weights: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    # Copies, as safetensors refuses tensors that share memory; bytes, as save_file's errors hide their errno.
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()})
