"""A profile as a table of jobs: those that fill the store, by seed, attack and set, then the notebooks, which read."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from distill_lib.study import main_job
from distill_lib.study.jobs import Job, expand
from distill_lib.study.session import Study, on_seeds
from distill_lib.study.table.fill import Fills, identity, listing
from distill_lib.study.table.price import Price
from distill_lib.study.table.table import Table
from distill_lib.study.table.wants import WANTS, Listing, Want

MOST = 24  # cells of a job
Jobs = dict[str, dict[str, Want]]  # name -> what it makes, by identity
Parts = dict[str, dict[str, list[Want]]]  # name -> parts of the job, by their names


def cut(
    source: str, seeds: Sequence[int] | None, device: str | None, data_dir: Path | None, root: Path, runs: Path
) -> Table:
    """The table of a profile.

    Args:
        source: Name of a profile, or path of a TOML file.
        seeds: In place of the profile's.
        device: Likewise; it need not be there where jobs are only listed.
        data_dir: Folder of image archives.
        root: The repository.
        runs: The store.

    Raises:
        UsageError: If there is no such profile, or images that it names are not to be had.
    """
    main = main_job.load(source)
    stages, notebooks = listing(main.source, device, data_dir, runs), expand(main, seeds, None, device)
    jobs, readers = _collected(notebooks, stages, root)
    parts, price = _parts(jobs), Price(main.profile, device, root)
    fills = [
        Job(name, needs=_names(parts, _before(base, jobs[base].values())), **price.fill(wants))
        for base, found in parts.items()
        for name, wants in found.items()
    ]
    drawn = [replace(job, needs=(*job.needs, *_names(parts, readers[job.name])), **price.notebook) for job in notebooks]
    given = {"--seeds": seeds and ",".join(map(str, seeds)), "--device": device, "--data-dir": data_dir}
    options = tuple(str(word) for option, value in given.items() if value is not None for word in (option, value))
    tasks = {name: [want.task for want in wants] for found in parts.values() for name, wants in found.items()}
    work = Fills(main, root, runs, device, data_dir, stages, tasks)
    return Table(main.name, main.source, (*fills, *drawn), root, runs, options, work)


def _collected(notebooks: Iterable[Job], stages: Listing, root: Path) -> tuple[Jobs, dict[str, list[str]]]:
    """What notebooks ask of the store, each thing in the first job that wants it; and the jobs of each notebook."""
    jobs: Jobs = {}
    owners: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    for job in notebooks:
        profile = on_seeds(stages.profile, job.parameters.get("seeds", ()))
        study, read = Study(stages.under(profile), root, None, False), {}
        for want in WANTS[job.notebook](study) if job.notebook in WANTS else ():
            thing, name = identity(want.task), _word(want.job)
            owner = owners.setdefault(thing, name)
            jobs.setdefault(owner, {}).setdefault(thing, want)
            read[owner] = None
        readers[job.name] = list(read)
    return jobs, readers


def _parts(jobs: Jobs) -> Parts:
    """The jobs, those of many things in numbered parts."""
    found: Parts = {}
    for base, things in jobs.items():
        wants, count = list(things.values()), math.ceil(len(things) / MOST)
        size = math.ceil(len(wants) / count)
        names = [base] if count == 1 else [f"{base}.{number}" for number in range(1, count + 1)]
        found[base] = {name: wants[i * size : (i + 1) * size] for i, name in enumerate(names)}
    return found


def _before(base: str, wants: Iterable[Want]) -> list[str]:
    """Jobs that come before one."""
    after = dict.fromkeys(_word(name) for want in wants for name in want.after)
    return [name for name in after if name != base]


def _names(parts: Parts, bases: Iterable[str]) -> tuple[str, ...]:
    """Names of all parts of jobs; a job that the table lacks has none."""
    return tuple(name for base in bases for name in parts.get(base, ()))


def _word(name: str) -> str:
    """A job's name, in letters that every engine and file system takes."""
    return re.sub(r"[^a-z0-9_.-]", "_", name.lower())
