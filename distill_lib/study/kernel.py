"""One kernel for one notebook: papermill's engine, with the kernel that the study wants and a truthful end.

Imported by the worker process only: papermill takes two seconds to import.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # opened before any fork


class KernelStopped(Exception):
    """The kernel died ("kernel") or a cell took too long ("timeout") in the cell with this source."""

    def __init__(self, reason: str, source: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.source = reason, source


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends: older ipykernels do not always notice."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def socket_folder() -> Iterator[str]:
    """A private folder with a short path, as a Unix socket's holds about 100 bytes; removed at the end."""
    base = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="distill-", dir=base if len(base) < 50 else "/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class LocalKernel(AsyncKernelManager):
    """A kernel of the interpreter that runs this code, whatever is installed under the name `python3`."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """Run this interpreter."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class LocalClient(PapermillNotebookClient):
    """Talks to its kernel through Unix sockets in `sockets`: no port, and no other user can connect."""

    sockets = ""

    def create_kernel_manager(self) -> LocalKernel:
        """Give the sockets a full path, else kernel and client look for them from different folders."""
        where = {"ip": f"{self.sockets}/k", "connection_file": f"{self.sockets}/k.json"}
        self.km = LocalKernel(kernel_name="python3", transport="ipc", **where)
        return self.km

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Keep an output unless it is unwanted."""
        output = super().process_message(msg, cell, cell_index)
        named = msg["content"].get("transient", {}).get("display_id")  # an update may follow: it must stay
        if output and not named and cell.outputs and cell.outputs[-1] is output and unwanted(cell.outputs):
            cell.outputs.pop()
        return output


def unwanted(outputs: list[dict[str, Any]]) -> bool:
    """Whether the last output is a picture that the cell shows already, or a bar of `tqdm.auto`.

    A figure that is a cell's last expression comes twice: as its value, and as a figure left open. A bar
    stays at its "0%" in a notebook that nobody watches: progress goes through a file.
    """
    last, *earlier = (output.get("data", {}) for output in reversed(outputs))
    picture = last.get("image/png")
    bar = "application/vnd.jupyter.widget-view+json" in last and "%|" in last.get("text/plain", "")
    return bar or (bool(picture) and any(data.get("image/png") == picture for data in earlier))


class LocalEngine(Engine):
    """Runs a notebook with `LocalClient`."""

    client: LocalClient | None = None  # the process's one kernel, for whoever must end it

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Run all cells; `options` are `sockets`, `env` and `timeout` (seconds a cell, or None)."""
        timeout = options["timeout"]
        cls.client = LocalClient(nb_man, kernel_name=kernel_name, timeout=timeout, shutdown_kernel="immediate")
        cls.client.sockets = options["sockets"]
        try:
            cls.client.execute(env=options["env"], preexec_fn=die_with_parent)
        except CellTimeoutError:
            raise cls._stopped(nb_man, "timeout", f"took more than {timeout} s") from None
        except (DeadKernelError, RuntimeError) as error:  # RuntimeError: it died before the first cell
            raise cls._stopped(nb_man, "kernel", f"the kernel died ({error})") from None

    @classmethod
    def kill(cls) -> None:
        """Kill the kernel and all that it started."""
        provisioner = getattr(getattr(cls.client, "km", None), "provisioner", None)
        with contextlib.suppress(OSError, AttributeError, TypeError):  # none was started, or it has ended
            os.killpg(provisioner.pgid, signal.SIGKILL)
            shutil.rmtree(cls.client.sockets, ignore_errors=True)

    @staticmethod
    def _stopped(nb_man: Any, reason: str, message: str) -> KernelStopped:
        """Mark the cell that was running as failed: papermill would leave every cell "completed"."""
        started = [cell for cell in nb_man.nb.cells if cell.metadata.papermill["start_time"]]
        cell = (started or nb_man.nb.cells)[-1]
        nb_man.cell_exception(cell)
        if cell.cell_type == "code":
            cell.outputs.append(nbformat.v4.new_output("error", ename=reason, evalue=message, traceback=[message]))
        return KernelStopped(reason, cell.source, message)


papermill_engines.register("local", LocalEngine)
