"""What a computation takes: seconds, and peak memory of the process and of the GPU while it ran."""

import contextlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_highest = 0.0  # MB, before the peak was last set back


def peak_rss_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Peak resident memory in MB: of this process or (RUSAGE_CHILDREN) its largest child that has ended.

    This process's counts from `forget_peaks` on where the system is Linux, else from its start.
    """
    if who == resource.RUSAGE_SELF:
        with contextlib.suppress(OSError, StopIteration, ValueError):
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return round(int(line.split()[1]) / 2**10, 1)
    return round(resource.getrusage(who).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1)


def highest_rss_mb() -> float:
    """Peak resident memory of this process since its start, whatever was forgotten."""
    return max(_highest, peak_rss_mb())


def peak_device_mb() -> float | None:
    """Most memory that tensors had on one GPU since `forget_peaks`, in MB; None where no GPU was used."""
    cuda = _cuda()
    return max(round(cuda.max_memory_allocated(i) / 2**20, 1) for i in range(cuda.device_count())) if cuda else None


def forget_peaks() -> None:
    """Let the peaks count from here on, where the system can."""
    global _highest
    _highest = highest_rss_mb()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")  # man 5 proc: sets VmHWM back, and ru_maxrss with it
    if cuda := _cuda():
        for i in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(i)


def _cuda() -> Any:
    """torch.cuda where this process has used it: a store needs no torch."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


class Meter:
    """Measures from its making on; what an interrupted computation had taken up to its checkpoint is counted in.

    Attributes:
        path: File beside the checkpoint that holds what was taken so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.began, self.before = path, time.monotonic(), {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            known = json.loads(path.read_text(encoding="utf-8")).items()
            self.before = {name: float(value) for name, value in known}
        forget_peaks()

    def read(self) -> dict[str, float]:
        """`wall_s` is the sum over all attempts, `peak_rss_mb` and (on a GPU) `peak_device_mb` the largest of them."""
        peaks = {"peak_rss_mb": peak_rss_mb(), "peak_device_mb": peak_device_mb()}
        largest = {name: max(peak or 0.0, self.before.get(name, 0.0)) for name, peak in peaks.items()}
        seconds = self.before.get("wall_s", 0.0) + time.monotonic() - self.began
        return {"wall_s": round(seconds, 2), **{name: peak for name, peak in largest.items() if peak}}
