"""`python -m distill_lib stamps SOURCE`: the table of jobs as JSON, and a stamp for each that is finished.

Snakemake decides by files which jobs to run, and deletes a job's files before it runs it again. So its files are
stamps, empty ones named by a job's key, and never the artefacts. They follow the store: they are set anew before each
run, as a stamp would outlive an artefact that somebody deleted.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from distill_lib.study import store
from distill_lib.study.table.command import add_options as add_arguments
from distill_lib.study.table.command import table_of
from distill_lib.study.table.table import Table

__all__ = ["add_arguments", "described", "main", "refresh"]
CORES = 4  # of a job of the study, which computes in as many processes; a command has one
LONG_AGO = 1.0  # Unix time of a stamp set here: one that is set again makes nothing else out of date


def refresh(table: Table) -> Path:
    """Set the stamp of each job that the store has, remove that of each other; their folder.

    Raises:
        UsageError: If the store cannot be written.
    """
    folder = table.runs / "stamps"
    with store.writing(table.runs):
        folder.mkdir(parents=True, exist_ok=True)
        for job in table.jobs:
            stamp = folder / table.key(job)
            if table.finished(job):
                stamp.touch()
                os.utime(stamp, (LONG_AGO, LONG_AGO))
            else:
                stamp.unlink(missing_ok=True)
    return folder


def described(table: Table) -> dict[str, Any]:
    """The jobs by key, as JSON values: `name`, keys of `needs`, `command`, and what each wants: `cores`, ..."""
    keys = {job.name: table.key(job) for job in table.jobs}
    return {
        keys[job.name]: {
            "name": job.name,
            "needs": [keys[name] for name in job.needs],
            "command": table.command(job),
            "cores": 1 if job.command else CORES,
            "gpus": job.gpus,
            "minutes": job.minutes,
            "memory_mb": job.memory_mb,
        }
        for job in table.jobs
    }


def main(args: argparse.Namespace) -> int:
    """Set the stamps and write the table to stdout."""
    table = table_of(args)
    print(json.dumps({"stamps": str(refresh(table)), "jobs": described(table)}))
    return 0
