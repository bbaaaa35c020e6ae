"""`python -m distill_lib collect PROFILE`: rows of what its jobs have made so far, before all of them have ended."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from distill_lib.plots import numbers_acc_asr, numbers_headline
from distill_lib.study import main_job, manifest, notebooks
from distill_lib.study.session import Study, on_seeds, open_stages
from distill_lib.study.stages import Stages
from distill_lib.study.table.command import add_options, seeds_and_folder
from distill_lib.study.table.fill import identity
from distill_lib.study.table.table import ROOT
from distill_lib.study.table.wants import WANTS, Found, Want

# Figures of every row there is: they say what the table says, however many of its rows are there.
OF_ALL_ROWS = {"acc_asr": numbers_acc_asr, "headline": numbers_headline}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, metavar="PROFILE")


def main(args: argparse.Namespace) -> int:
    """File the rows, draw the figures of the whole table, and say how many measurements are missing; 0."""
    seeds, data_dir = seeds_and_folder(args)
    study, there, missing = collect(args.source, seeds, args.device, data_dir)
    said = study.finish()
    if there:
        about = main_job.about(main_job.load(args.source), args.device, data_dir)
        where = study.root, study.stages.store.root, study.profile.name
        manifest.keep(*where, about, [], _seeds(there))
        table = study.table()
        for kind, numbers in OF_ALL_ROWS.items():
            study.figure(kind, numbers(table))
    print(f"{said} {len(there)} measurements are in the store, {len(missing)} are not.")
    return 0


def collect(
    source: str, seeds: Sequence[int] | None, device: str | None, data_dir: Path | None, root: Path = ROOT
) -> tuple[Study, list[Want], list[Want]]:
    """A study with the rows of what its store has; the measurements there, and those that are not. Nothing is computed.

    Args:
        source: Name of a profile, or path of a TOML file.
        seeds: In place of the profile's.
        device: Likewise.
        data_dir: Folder of image archives.
        root: The repository.
    """
    job = main_job.load(source)
    stages = open_stages(on_seeds(job.profile, seeds or ()), device or "auto", data_dir, root)
    stages = Found(**{each.name: getattr(stages, each.name) for each in fields(Stages)})
    study, there, missing = Study(stages, root, None, False), {}, {}
    for want in (each for entry in job.notebooks if entry.notebook in WANTS for each in WANTS[entry.notebook](study)):
        name = identity(want.task)  # several notebooks ask for the headline
        if want.file is None or name in there or name in missing:
            continue
        if want.task.done(stages):
            there[name] = want
            want.file()
        else:
            missing[name] = want
    return study, list(there.values()), list(missing.values())


def _seeds(wants: Sequence[Want]) -> dict[str, list[int]]:
    """Of each study, the seeds that these are of."""
    seeds: dict[str, set[int]] = {}
    for want in wants:
        study = want.job.partition("-")[0]  # the sibling studies' jobs begin with their names
        study = study if study in notebooks.OWN.values() else notebooks.FIRST
        seeds.setdefault(study, set()).add(int(want.job.rpartition("-s")[2]))
    return {study: sorted(found) for study, found in seeds.items()}
