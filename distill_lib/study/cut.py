"""A profile as a table of jobs: what fills the store, then the notebooks, which only read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_lib.study import main_job, manifest, runner, store
from distill_lib.study.jobs import Job, expand
from distill_lib.study.table import Table


def cut(
    source: str, seeds: Sequence[int] | None, device: str | None, data_dir: Path | None, root: Path, runs: Path
) -> Table:
    """The table of a profile."""
    main = main_job.load(source)
    jobs = expand(main, seeds, None, device)
    env = {"DISTILL_DATA": str(data_dir)} if data_dir else {}
    place = runner.Place(root, runs, lambda job: main_job.fingerprint(main, job, data_dir), env)
    given = {"--seeds": seeds and ",".join(map(str, seeds)), "--device": device, "--data-dir": data_dir}
    options = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
    work = Work(main, place, device, data_dir)
    return Table(main.name, main.source, tuple(jobs), root, runs, tuple(options), work)


@dataclass
class Work:
    """Jobs of a profile."""

    main: main_job.MainJob
    place: runner.Place
    device: str | None
    data_dir: Path | None

    def _planned(self, job: Job) -> runner.Planned:
        return runner.plan([job], self.place)[0]

    def key(self, job: Job) -> str:
        """Of the job's result."""
        return self._planned(job).key

    def finished(self, job: Job) -> bool:
        """Whether the job's result is in the store."""
        return self._planned(job).record is not None

    def run(self, job: Job) -> int:
        """Run it here; 0, or 1 where it failed."""
        outcome = runner.run([job], self.place)[0]
        if outcome.status == "done":
            self._manifest(outcome.record)
        return 1 if outcome.status == "failed" else 0

    def _manifest(self, record: dict[str, Any]) -> None:
        about = main_job.about(self.main, self.device, self.data_dir)
        path = self.place.root / "results" / self.main.name / "manifest.json"
        with store.exclusive(self.place.runs, f"manifest-{self.main.name}"):
            manifest.write_manifest(path, about, [record])
