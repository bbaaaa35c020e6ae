"""One notebook in a process of its own: `python -m distill_lib.study.execute FOLDER/job.json`.

The folder is the job's workspace. The process ends with code 0 only when the notebook's last cell wrote its
result file and all that it lists is there; then the executed notebook, `result.json` and `job.json` (cost,
outputs) are in `<runs>/notebooks/<key>/`. Else the partial notebook and its story are in `<runs>/failed/`.
"""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.study import cost, parameters, processes, store
from distill_lib.study.table import records

CODES = {"done": 0, "error": 1, "usage": 2, "cell": 3, "kernel": 4, "timeout": 5, "result": 6}
ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # tags of the cells that papermill adds


class Failed(Exception):
    """The notebook did not succeed; `reason` is a name in `CODES`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def main(argv: list[str]) -> int:
    """Run the job that a file describes; gives the exit code."""
    file = Path(argv[0]).resolve()
    job = json.loads(file.read_text())
    _end_with(job.get("parent"))
    try:
        with store.writing(Path(job["runs"]), store.FULL):
            _run(job, file.parent)
    except (UsageError, Failed) as error:
        reason = getattr(error, "reason", "usage")
        keep_failed(job, file.parent, reason, str(error))
        print(error, file=sys.stderr)
        return CODES[reason]
    return CODES["done"]


def _end_with(parent: int | None) -> None:
    """End, and take the kernel along, on SIGTERM and SIGINT, and when the parent process is gone."""

    def end(*_: Any) -> None:
        kernel = sys.modules.get("distill_lib.study.kernel")
        if kernel:
            kernel.LocalEngine.kill()
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if parent:
        processes.end_with(parent, end)


def _run(job: dict[str, Any], folder: Path) -> None:
    source = Path(job["root"]) / "notebooks" / f"{job['notebook']}.ipynb"
    values = parameters.check(source, job["parameters"])
    began = time.monotonic()
    _papermill(job, source, folder, values)
    record = {"name": job["name"], "notebook": job["notebook"], "parameters": values, "key": job["key"]}
    record["wall_s"] = round(time.monotonic() - began, 2)
    record["outputs"] = _outputs(job, folder / "result.json")
    record["peak_rss_mb"] = _peak(folder / "result.json")
    final = folder / "final"
    final.mkdir()
    for name in (source.name, "result.json"):
        os.replace(folder / name, final / name)
    store.write_json(final / "job.json", record)
    shutil.rmtree(_home(job), ignore_errors=True)  # what is there has lost its figures
    store.place(final, _home(job))
    records.forget(Path(job["runs"]), job["name"])


def _papermill(job: dict[str, Any], source: Path, folder: Path, values: dict[str, Any]) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from distill_lib.study.kernel import KernelStopped, socket_folder

    output = folder / source.name
    with socket_folder() as sockets:
        try:
            papermill.execute_notebook(
                papermill.iorw.load_notebook_node(str(source)),  # not its path: papermill formats paths
                str(output).replace("{", "{{").replace("}", "}}"),
                values,
                engine_name="local",
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=job["root"],
                timeout=job.get("timeout"),
                sockets=sockets,
                env=environment(job, folder, sockets),
            )
        except PapermillExecutionError as error:
            if error.ename == "UsageError":
                raise Failed("usage", error.evalue) from None
            where = _cell(output, error.source)
            raise Failed("cell", f"{where} failed: {error.ename}: {error.evalue}") from None
        except KernelStopped as stop:
            raise Failed(stop.reason, f"{_cell(output, stop.source)}: {stop}") from None


def importing() -> dict[str, str]:
    """The environment in which a Python finds `distill_lib`, installed or not."""
    package = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }


def environment(job: dict[str, Any], folder: Path, sockets: str) -> dict[str, str]:
    """The kernel's environment: no IPython settings of the user's, pictures, no progress bars."""
    ours = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "IPYTHONDIR": sockets,
        "DISTILL_RUNS": job["runs"],
        "DISTILL_RESULT": str(folder / "result.json"),
        "DISTILL_PROGRESS": str(folder / "progress.json"),
    }
    return {**importing(), **job.get("env", {}), **ours}


def _cell(notebook: Path, source: str) -> str:
    """A cell's place in the notebook as it was written, and its first line."""
    cells = parameters.read_notebook(notebook)["cells"]
    written = [c["source"] for c in cells if not ADDED & set(c.get("metadata", {}).get("tags", []))]
    number = f"cell {written.index(source) + 1}" if source in written else "a cell"
    first = next((line for line in source.splitlines() if line.strip() and not line.startswith("#")), "")
    return f"{number} ({first[:80]})"


def _outputs(job: dict[str, Any], result: Path) -> dict[str, str | None]:
    """The files that the notebook made: a hash for `figures`, None for `tables` and the job's `makes`."""
    try:
        listed = json.loads(result.read_text())
        figures, others = list(listed.get("figures", [])), [*listed.get("tables", []), *job.get("makes", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        raise Failed("result", "the notebook ended, but its last cell did not write its result file") from None
    root = Path(job["root"])
    missing = [name for name in (*figures, *others) if not (root / name).is_file()]
    if missing:
        raise Failed("result", f"the notebook ended without making {', '.join(missing)}")
    return {**dict.fromkeys(others), **{name: _hash(root / name) for name in figures}}


def _peak(result: Path) -> float:
    """The kernel's peak memory in MB: the system has only what it was since the last stage began, which set it back."""
    known = json.loads(result.read_text()).get("peak_rss_mb", 0.0)
    return max(known, cost.peak_rss_mb(resource.RUSAGE_CHILDREN))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _home(job: dict[str, Any]) -> Path:
    return Path(job["runs"]) / "notebooks" / job["key"]


def finished(job: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a finished job, or None where it must run (again).

    Its files must be there, and its figures as it made them: a run with other seeds draws over them.
    """
    root = Path(job["root"])
    try:
        json.loads((_home(job) / "result.json").read_text())
        record = json.loads((_home(job) / "job.json").read_text())
        for name, digest in record["outputs"].items():
            if not (root / name).is_file() or digest not in (None, _hash(root / name)):
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def keep_failed(job: dict[str, Any], folder: Path, reason: str, message: str) -> None:
    """Move what is there of a failed job to `<runs>/failed/`, with a record of what happened."""
    kept = Path(job["runs"]) / "failed" / job["name"]
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        for name, ending in ((f"{job['notebook']}.ipynb", ".ipynb"), ("worker.log", ".log")):
            if (folder / name).is_file():
                os.replace(folder / name, kept.with_suffix(ending))
    records.tell(Path(job["runs"]), job["name"], job["key"], reason, message)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
