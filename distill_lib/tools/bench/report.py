"""A whole run of the bench: one ratio after the other, each said when it is there, and the file they end in."""

import gc
import resource
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from distill_lib.study import manifest
from distill_lib.study.cost import peak_rss_mb
from distill_lib.tools.bench.datafree.measurements import WITHOUT_LOADER
from distill_lib.tools.bench.library import simclr_steps
from distill_lib.tools.bench.measurements import AGAINST_LIMITS, AGAINST_LOOPS
from distill_lib.tools.bench.pairs import PARTS, Budget, Contest, Ratio, Run, Side, ratio_of, rounds
from distill_lib.tools.bench.setup import PAPERS, SMALL, Setup

WORKERS = 2


def report(setup: Setup, budget: Budget, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure everything.

    Args:
        setup: What is timed.
        budget: Of each measurement.
        say: Told each row as soon as it is measured.

    Returns:
        `hardware`; `ratios`, one dict a row; `seconds`, the median step behind each ratio, first / second;
        `flatness`, the cost of a view by the number of images; `prices`, the same by encoder; `memory`, peaks. JSON
        values only.
    """
    about = hardware(setup)
    bench = _Bench(setup, budget, say)
    for name, build in AGAINST_LOOPS.items():
        if name == "simclr_step_float32" and setup.precision == "float32":
            bench.same(name, "simclr_step", "float32 either way")
            continue
        bench.measure(name, build(setup, WORKERS))
    for name, build in AGAINST_LOOPS.items():
        if about["cores"] == WORKERS:
            bench.same(f"{name}_all_cores", name, f"{WORKERS} cores: the same pairs")
        elif name in WITHOUT_LOADER:
            bench.same(f"{name}_all_cores", name, "no loader: the same pairs")
        else:
            bench.measure(f"{name}_all_cores", build(setup, about["cores"]))
    for name, build in AGAINST_LIMITS.items():
        bench.measure(name, build(setup, WORKERS))
    flat, priced = flatness(setup, budget), prices(setup, budget)
    for row in flat:
        say(f"{row['images']:>9,} images: {row['microseconds']:.1f} microseconds a view")
    for row in priced:
        say(f"{row['encoder']}: {row['microseconds']:.1f} microseconds a view")
    memory = {"unit": "MB", "process": peak_rss_mb(), "largest_worker": peak_rss_mb(resource.RUSAGE_CHILDREN)}
    if bench.device_memory:
        memory["device"] = bench.device_memory
    return {
        "hardware": about,
        "ratios": [asdict(row) for row in bench.rows.values()],
        "seconds": bench.seconds,
        "flatness": flat,
        "prices": priced,
        "memory": memory,
    }


class _Bench:
    """The rows of a run, and what stands beside them."""

    def __init__(self, setup: Setup, budget: Budget, say: Callable[[str], None]):
        self.setup, self.budget, self.say = setup, budget, say
        self.rows: dict[str, Ratio] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self.device_memory: dict[str, dict[str, float]] = {}

    def measure(self, name: str, contest: Contest) -> None:
        """One row, from its pairs."""
        peaks = [0.0, 0.0]
        runs = [_with_peak(run, peaks, i, self.setup.device) for i, run in enumerate((contest.first, contest.second))]
        times = rounds([Side(run, least) for run, least in zip(runs, contest.least, strict=True)], self.budget)
        self.rows[name] = ratio_of(name, times, contest.unit, contest.scale)
        first, second = np.median(times, 0).tolist()
        self.seconds[name] = {"first": first, "second": second}
        if self.setup.device.type == "cuda":
            self.device_memory[name] = {"first": peaks[0], "second": peaks[1]}
        self.say(line(self.rows[name]))
        gc.collect()

    def same(self, name: str, other: str, why: str) -> None:
        """A row that another one's pairs answer too; its unit says so."""
        row = self.rows[other]
        self.rows[name] = replace(row, name=name, unit=f"{row.unit} ({why})")
        self.say(line(self.rows[name]))


def _with_peak(run: Run, peaks: list[float], place: int, device: torch.device) -> Run:
    """The same, noting the device's peak memory in MB."""
    if device.type != "cuda":
        return run

    def watched(steps: int) -> float:
        torch.cuda.reset_peak_memory_stats(device)
        seconds = run(steps)
        peaks[place] = max(peaks[place], torch.cuda.max_memory_allocated(device) / 2**20)
        return seconds

    return watched


def flatness(setup: Setup, budget: Budget) -> list[dict[str, float]]:
    """Cost of a view in SimCLR steps, on image sets of several sizes, timed in turns."""
    runs = [simclr_steps(setup, images=setup.pictures(count)) for count in setup.flatness]
    costs = _view_costs(runs, min(setup.simclr_batch, min(setup.flatness)), budget)
    return [{"images": count, **cost} for count, cost in zip(setup.flatness, costs, strict=True)]


def prices(setup: Setup, budget: Budget) -> list[dict[str, Any]]:
    """Cost of a view in SimCLR steps with the encoders of the profiles: hours are computed from it."""
    batch = min(setup.priced_batch, setup.images)
    runs = [simclr_steps(replace(setup, encoder=config, simclr_batch=batch)) for config in (SMALL, PAPERS)]
    names = [f"ResNet-{c.depth}, width {c.width}, stem stride {c.stem_stride}" for c in (SMALL, PAPERS)]
    costs = _view_costs(runs, batch, budget)
    return [{"encoder": name, **cost} for name, cost in zip(names, costs, strict=True)]


def _view_costs(runs: list[Run], batch: int, budget: Budget) -> list[dict[str, float]]:
    times = rounds([Side(run, PARTS) for run in runs], budget)
    low, middle, high = np.quantile(1e6 / (2 * batch) * times, (0.25, 0.5, 0.75), axis=0).tolist()
    return [
        {"microseconds": middle[i], "low": low[i], "high": high[i], "rounds": budget.rounds} for i in range(len(runs))
    ]


def hardware(setup: Setup) -> dict[str, Any]:
    """What ran: processor or GPU, cores, torch, threads, precision."""
    found = manifest.hardware()
    gpu = {}
    if setup.device.type == "cuda":
        gpu = {"gpu": torch.cuda.get_device_name(setup.device), "cuda": torch.version.cuda}
    return {
        **{name: found[name] for name in ("cpu", "cores", "system")},
        **gpu,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": setup.precision,
        "encoder": asdict(setup.encoder),
    }


def line(row: Ratio) -> str:
    """A row for people: the ratio with its quartiles."""
    return f"{row.name:30}{row.ratio:8.2f} [{row.low:.2f}, {row.high:.2f}]  n = {row.pairs} pairs  {row.unit}"
