"""Jobs of a profile: those that fill the store, known by what they make, and the notebooks."""

import functools
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.study import main_job, manifest, runner, store
from distill_lib.study.config.sweep import TABLES
from distill_lib.study.datafree import stages as datafree_stages
from distill_lib.study.jobs import Job
from distill_lib.study.progress import Reporter
from distill_lib.study.stale import Naming
from distill_lib.study.store import Artefact, Store
from distill_lib.study.table import records
from distill_lib.study.table.wants import Listing
from distill_lib.study.undistillable import stages as undistillable_stages
from distill_lib.study.workers import Task, Workers, how_many
from distill_lib.study.workshop import VERSIONS

# Settings of a profile that a thing of the first study can depend on: not which seeds, sets and sweeps there are.
SETTINGS = ("pretrain", "attack", *TABLES)
ALL_VERSIONS = VERSIONS | datafree_stages.VERSIONS | undistillable_stages.VERSIONS


def identity(task: Task) -> str:
    """A task's name: of what decides its result, images and versions aside."""
    settings = {name: _plain(getattr(task.profile, name)) for name in SETTINGS}
    if task.profile.defender.source == "picture":
        settings["picture"] = _plain(task.profile.datafree.ood.patches)
    return store.digest([task.make.__name__, settings, [_plain(each) for each in task.arguments]])


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) else value


def listing(source: str, device: str | None, data_dir: Path | None, runs: Path) -> Listing:
    """The stages of a profile, to list what is to be made; the device need not be there."""
    stages = main_job.naming(source, device, data_dir)
    shared = {"known": stages.known, "precision": stages.precision, "sets": stages.sets}
    return Listing(stages.profile, Store(runs), stages.device, stages.data_dir, **shared)


@dataclass(eq=False)
class Fills:
    """How the jobs of a profile are named, found and run.

    Attributes:
        main: The profile.
        root: The repository.
        runs: The store.
        device: In place of the profile's.
        data_dir: Folder of image archives.
        stages: To name things by.
        tasks: What each job makes that is no notebook.
    """

    main: main_job.MainJob
    root: Path
    runs: Path
    device: str | None
    data_dir: Path | None
    stages: Listing
    tasks: dict[str, list[Task]]

    def key(self, job: Job) -> str:
        """Of the job's result."""
        return self._planned(job).key if job.notebook else self._key(job.name)

    def finished(self, job: Job) -> bool:
        """Whether the store has all that the job makes: as its record says, or, without one, by naming each thing."""
        if job.notebook:
            return self._planned(job).record is not None
        record = records.read(self.runs, self._key(job.name))
        try:
            made = self.named(job.name) if record is None else [Artefact(*each, None) for each in record["artefacts"]]
            return all(self.stages.store.find(each.kind, each.key) for each in made)
        except FileNotFoundError:  # of a target that is found with an encoder not there yet
            return False

    def run(self, job: Job) -> int:
        """Run it here unless it is finished; 0, or 1 where it failed."""
        if job.notebook:
            return self._draw(job)
        key = self._key(job.name)
        try:
            return records.once(self.runs, job, key, lambda: self.finished(job), lambda: self._make(job.name, key))
        except UsageError as error:
            records.fail(self.runs, job.name, key, "usage", str(error))
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            records.fail(self.runs, job.name, key, "error", why, traceback.format_exc())
            records.say_failed(job.name, why)
            return 1

    # ---- what fills the store ------------------------------------------------------------------------------------

    @functools.cached_property
    def _images(self) -> dict[str, Any]:
        return main_job.facts(self.stages)

    @functools.cache  # noqa: B019 (lives as long as the process)
    def _key(self, name: str) -> str:
        made = sorted(map(identity, self.tasks[name]))
        precision = self.stages.profile.precision
        if precision == "auto" and self.stages.precision == "bf16":
            precision = "bf16"
        return store.digest([name, made, self._images, ALL_VERSIONS, precision])[:16]

    def named(self, name: str) -> Iterator[Artefact]:
        """All that a job's tasks are made from and make; a FileNotFoundError where a target is not known yet."""
        names = _Names(self.runs)
        stages = replace(main_job.naming(self.main.source, self.device, self.data_dir), store=names)
        seen = 0
        for task in self.tasks[name]:
            task.run(stages)
            found = list(names.named.values())
            yield from found[seen:]
            seen = len(found)

    def _make(self, name: str, key: str) -> dict[str, Any]:
        progress = records.progress_file(self.runs, key)
        stages = main_job.stages_of(self.main.source, self.device, self.data_dir)
        stages = replace(stages, store=Store(self.runs, Reporter(progress)))
        progress.parent.mkdir(parents=True, exist_ok=True)
        workers = Workers(how_many(os.environ.get("DISTILL_WORKERS"), stages.device), progress)
        workers.settle(stages.device)
        workers.run(stages, self.tasks[name])
        for task in self.tasks[name]:  # what is left; and what was made, looked at once more
            task.run(stages)
        for old in progress.parent.glob(f"{progress.stem}*{progress.suffix}"):
            old.unlink(missing_ok=True)
        return {"artefacts": [[each.kind, each.key] for each in self.named(name)]}

    # ---- notebooks -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _place(self) -> runner.Place:
        workers = os.environ.get("DISTILL_WORKERS")
        env = {"DISTILL_DATA": self.data_dir, "DISTILL_WORKERS": workers}
        env = {name: str(value) for name, value in env.items() if value is not None}
        return runner.Place(self.root, self.runs, lambda job: main_job.fingerprint(self.main, job, self.data_dir), env)

    def _planned(self, job: Job) -> runner.Planned:
        return runner.plan([job], self._place)[0]

    def _draw(self, job: Job) -> int:
        outcome = runner.run([job], self._place)[0]
        if outcome.status == "done":
            about = main_job.about(self.main, self.device, self.data_dir)
            manifest.keep(self.root, self.runs, self.main.name, about, [outcome.record])
        return int(outcome.status == "failed")


class _Names(Naming):
    """A store that only names, and keeps the names."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.named: dict[tuple[str, str], Artefact] = {}

    def make(self, kind: str, *rest: Any) -> Artefact:
        found = super().make(kind, *rest)
        return self.named.setdefault((kind, found.key), found)
