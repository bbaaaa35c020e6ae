"""The table of a profile, or of a file of commands."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distill_lib.errors import UsageError
from distill_lib.study import store
from distill_lib.study.table.table import ROOT, Table, commands, is_number, ordered

PROFILES = ROOT / "distill_lib" / "study" / "profiles"


def load_table(
    source: str,
    seeds: Sequence[int] | None = None,
    device: str | None = None,
    data_dir: Path | None = None,
    time_scale: float = 1.0,
    root: Path = ROOT,
    runs: Path | None = None,
) -> Table:
    """The table of a profile, or of a JSON file of commands.

    Args:
        source: Name of a profile, or path of a TOML profile or JSON table.
        seeds: In place of the profile's.
        device: Likewise.
        data_dir: Folder of image archives.
        time_scale: Multiplies the minutes: a slower machine.
        root: The repository.
        runs: The store; None: as the environment says.

    Raises:
        UsageError: For a source that is none; a job that is not as it must be; needs that no job has or in a circle.
    """
    if not (is_number(time_scale) and time_scale > 0):
        raise UsageError(f"the time scale is {time_scale!r}; allowed: a number above 0")
    place = (Path(root).resolve(), Path(runs).resolve() if runs else store.runs_folder(root))
    if source.endswith(".json"):
        table = commands(Path(source), seeds, place)
    else:
        _check_source(source)
        from distill_lib.study.table.cut import cut  # torch takes seconds to import

        table = cut(source, seeds, device, data_dir, *place)
    scaled = [job if job.minutes is None else replace(job, minutes=job.minutes * time_scale) for job in table.jobs]
    return replace(table, jobs=tuple(ordered(scaled)))


def _check_source(source: str) -> None:
    """UsageError at once, not after the seconds that torch takes, for a source that is none."""
    known = [path.stem for path in sorted(PROFILES.glob("*.toml"))]
    if source not in known and not (source.endswith(".toml") and Path(source).is_file()):
        raise UsageError(
            f"unknown profile {source!r}; allowed: {', '.join(known)}, a .toml profile or a .json table that is there"
        )
