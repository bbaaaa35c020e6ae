"""Look for the settings of a sibling study: exploration seeds, which are measured on validation images alone.

    python scripts/explore_siblings.py laptop datafree --seeds 100 --only ood/none ood/abd --set ood.schedule.lr=0.02
    python scripts/explore_siblings.py laptop undistillable --seeds 100 101 --set ast.alpha=0.1

Makes the study's teachers and students, or those named with `--only`, under the profile's settings and those set here,
and prints a row each. What the store holds is not trained again; no table is written.
"""

import argparse
import math
import tomllib
from collections.abc import Iterable
from typing import Any

import pandas

from distill_lib.errors import UsageError
from distill_lib.evaluation.cells import require_exploring
from distill_lib.study.datafree.cells import STUDENT
from distill_lib.study.datafree.cells import TEACHER as TAUGHT
from distill_lib.study.datafree.study import DataFreeStudy, open_datafree
from distill_lib.study.session import open_study
from distill_lib.study.undistillable.cells import TEACHER, Subject
from distill_lib.study.undistillable.stages import NASTY
from distill_lib.study.undistillable.study import UndistillableStudy, open_undistillable

# The columns that name a network, joined by a slash, and how a study lists all that it makes.
NAMES = {"datafree": ("attack", "method", "defence"), "undistillable": ("teacher", "student", "thief")}
RATES = {
    "datafree": [
        "acc",
        "asr",
        "target_rate",
        "triggered_acc",
        "placebo_asr",
        "vaccine",
        "suspicious",
        "auc",
        "auc_usual",
    ],
    "undistillable": ["acc", "agreement", "warm_entropy", "peaks", "several_peaks", "nastiness"],
}
OPEN = {"datafree": open_datafree, "undistillable": open_undistillable}


def setting(text: str) -> tuple[str, Any]:
    """`KEY=VALUE`, the value as TOML says it; a bare word is a name."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} sets nothing; allowed: KEY=VALUE")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def everything(study: Any) -> list[Any]:
    """Every network that a sibling study measures on each of its seeds."""
    more = study.defended() if hasattr(study, "defended") else study.further()
    return list(dict.fromkeys([*study.teachers(), *study.students(), *more]))


def chosen(subjects: Iterable[Any], names: tuple[str, ...], only: list[str]) -> list[Any]:
    """Those whose name holds every word of one of `only`, words apart by slashes; all where it is empty."""
    found = []
    for subject in subjects:
        words = {getattr(subject, name) for name in names} | {subject.stage}
        if not only or any(set(each.split("/")) <= words for each in only):
            found.append(subject)
    if not found:
        known = sorted({getattr(subject, name) for subject in subjects for name in names} - {""})
        raise UsageError(f"--only {' '.join(only)} names no network; allowed: words of {', '.join(known)}")
    return found


def explored(profile: str, name: str, seeds: list[int], only: list[str], settings: dict[str, Any]) -> pandas.DataFrame:
    """The rows, one a network."""
    study = OPEN[name](open_study(profile, seeds=seeds, overrides={f"{name}.{key}": settings[key] for key in settings}))
    subjects = chosen(everything(study), NAMES[name], only)
    rows = study.measure(subjects)
    if name == "undistillable":
        rows["nastiness"] = [moved(study, subject) for subject in subjects]
    else:
        rows = rows.merge(vaccinated(study, subjects), how="left", on=[*NAMES[name], "stage", "seed"])
    shown = ["stage", *NAMES[name], "seed", "n_test", *RATES[name]]
    return rows.reindex(columns=shown).dropna(axis=1, how="all")


def vaccinated(study: DataFreeStudy, subjects: list[Any]) -> pandas.DataFrame:
    """Of a teacher, the vaccine's AUC on images; of a student, whether it was accepted and what it held suspicious."""
    rows = [{**each, "stage": STUDENT} for each in study.vaccines(subjects).to_dict("records")]
    for subject in subjects:
        if subject.stage == TAUGHT:
            areas = {name: value for name, value in study.scores(subject).items() if name.startswith("auc")}
            rows.append({**subject.identity(), **areas})
    columns = [*NAMES["datafree"], "stage", "seed", "vaccine", "suspicious", "auc", "auc_usual"]
    return pandas.DataFrame(rows, columns=columns)


def moved(study: UndistillableStudy, subject: Subject) -> float:
    """How far a nasty teacher lies from the normal one: what its omega is chosen by, beside its accuracy."""
    if subject.stage != TEACHER or subject.teacher != NASTY:
        return math.nan
    return study.stages.resisting(NASTY, subject.seed).metrics["nastiness"] or math.nan


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("study", choices=sorted(OPEN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD/WORD", help="networks, by words of their names")
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    try:
        require_exploring(args.seeds)
        found = explored(args.profile, args.study, args.seeds, args.only, dict(args.settings))
    except UsageError as error:
        parser.error(str(error))
    print(found.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
