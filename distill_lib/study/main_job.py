"""The study as the runner sees it: profiles as lists of notebooks, what their results depend on, the closing words."""

import dataclasses
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError
from distill_lib.evaluation.cells import EXPLORATION_SEEDS
from distill_lib.study import tables
from distill_lib.study.config.load import PROFILES, load_profile
from distill_lib.study.config.profile import Profile
from distill_lib.study.notebooks import DATA_FREE, NEEDS, NOTEBOOKS, OWN, SWEPT, UNDISTILLABLE

ROOT = Path(__file__).resolve().parents[2]
# What the paper (arXiv 2403.03846) averages over: no mean over fewer sets is put beside its numbers.
PAPER_SETS = {"pretrain": ("cifar10", "stl10"), "downstream": ("cifar10", "stl10", "gtsrb", "svhn")}
WORDS = {"pretrain": "pre-training", "downstream": "downstream"}


@dataclass(frozen=True)
class Entry:
    """A notebook of a profile, for the job table."""

    notebook: str
    parameters: dict[str, Any]
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    gpus: int
    minutes: float | None


@dataclass(frozen=True)
class MainJob:
    """A profile with its notebooks, and the name or file that it was read from."""

    source: str
    profile: Profile

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name

    @property
    def notebooks(self) -> list[Entry]:
        """The notebooks in order."""
        entries = []
        for stem, figures in NOTEBOOKS.items():
            own = getattr(self.profile, OWN[stem]) if stem in OWN else self.profile
            if own is None:
                continue
            figures = (*figures, *self._own_figures(stem))
            makes = tuple(f"figures/{self.name}/{name}.{end}" for name in figures for end in ("png", "svg", "json"))
            parameters = {"profile": self.source, "seeds": list(own.seeds), "device": "auto"}
            needs, minutes = NEEDS.get(stem, ()), self.profile.minutes.get(stem)
            entries.append(Entry(stem, parameters, needs, makes, int(self.profile.device == "cuda"), minutes))
        return entries

    def _own_figures(self, stem: str) -> list[str]:
        """Figures that a notebook makes for some profiles alone."""
        curve = ["harm"] if any(sweep.figure == "harm" for sweep in self.profile.sweeps) else []
        own = {"01_attack": [f"trigger_{attack}" for attack in self.profile.further], "06_robustness": curve}
        return own.get(stem, [])


def names() -> list[str]:
    """The profiles' names."""
    return list(PROFILES)


def load(name: str) -> MainJob:
    """A profile.

    Raises:
        UsageError: If there is none of that name.
    """
    profile = load_profile(name)
    return MainJob(name if name in PROFILES else str(Path(name).resolve()), profile)


@cache
def naming(source: str, device: str | None, data_dir: Path | None):
    """The stages of a profile as far as naming results takes: their device need not be there, as on a login node.

    Raises:
        UsageError: If there is no such device anywhere.
    """
    import torch

    from distill_lib.study.session import open_stages
    from distill_lib.training.device import resolve_device, resolve_precision

    profile = load_profile(source)
    wanted = profile.device if device in (None, "auto") else device
    kind = torch.device("cuda") if wanted.startswith("cuda") else resolve_device(wanted)
    stages = open_stages(profile, "cpu", data_dir, ROOT)
    return replace(stages, precision=resolve_precision(profile.precision, kind))


@cache
def stages_of(source: str, device: str | None, data_dir: Path | None):
    """The stages on their device; what is known of images is shared with those that name."""
    from distill_lib.study.session import open_stages

    stages = open_stages(load_profile(source), device or "auto", data_dir, ROOT)
    named = naming(source, device, data_dir)
    return replace(stages, known=named.known, sets=named.sets)


def check(job: MainJob, device: str | None, data_dir: Path | None) -> None:
    """Find out at once whether the profile can run here: nothing that images and settings tell is left for later.

    Raises:
        UsageError: If there is no such device, an image set is missing or wrong, a class to poison or to aim at has no
            image, or the defender has too few; at a point of a sweep or in a recipe, its name is said.
    """
    stages, profile = stages_of(job.source, device, data_dir), job.profile
    if profile.datafree is not None:
        _data_free(stages).check()
    if profile.undistillable is not None:
        _undistillable(stages).check()
    attacks = {profile.attack: profile, **profile.further}
    for attack, sets in attacks.items():
        for name in dict.fromkeys([*sets.downstream, sets.compared or sets.downstream[0]]):
            stages.facts(name, "test")
            _check_settings(stages, profile, attack, name)
    for sweep in profile.sweeps:
        sets = attacks[sweep.attack or profile.attack]
        for point in sweep.points():
            where = sets.compared or sets.downstream[0], f"sweep {sweep.name!r}: "
            _check_settings(stages, profile.varied(point), sweep.attack or profile.attack, *where)
    for recipe in profile.recipes:
        where = profile.downstream[0], f"recipe {recipe.name!r}: "
        _check_settings(stages, profile.varied(recipe.settings), profile.attack, *where)


def _data_free(stages):
    from distill_lib.study.datafree.stages import DataFreeStages

    return DataFreeStages(replace(stages, known={}), stages.profile.datafree)  # its facts are no part of others' keys


def _undistillable(stages):
    from distill_lib.study.undistillable.stages import UndistillableStages

    return UndistillableStages(replace(stages, known={}), stages.profile.undistillable)


def _check_settings(stages, profile: Profile, attack: str, downstream: str, whose: str = "") -> None:
    under = stages.under(replace(profile, attack=attack))
    try:
        under.check_share()
        under.trigger()
        under.backdoor.check(under, downstream)
    except UsageError as error:
        raise UsageError(f"{whose}{error}") from None


def fingerprint(job: MainJob, one: Any, data_dir: Path | None) -> dict[str, Any]:
    """All that can change a notebook's result besides its cells and parameters.

    Args:
        job: The profile.
        one: The notebook's job.
        data_dir: Folder of image archives.
    """
    from distill_lib.study.workshop import VERSIONS

    stages = naming(job.source, one.parameters.get("device"), data_dir)
    settings = {**asdict(job.profile), "minutes": None, "device": None, "summary": None}
    if one.notebook != SWEPT:
        del settings["sweeps"]
    for notebook, table in OWN.items():
        if one.notebook != notebook:
            del settings[table]
    versions, images = VERSIONS, _images(stages, one.notebook == SWEPT)
    if one.notebook == DATA_FREE:
        from distill_lib.study.datafree.stages import VERSIONS as own

        versions, images = {**VERSIONS, **own}, {**images, **_data_free_images(stages)}
    elif one.notebook == UNDISTILLABLE:
        from distill_lib.study.undistillable.stages import VERSIONS as own

        versions, images = {**VERSIONS, **own}, {**images, **_undistillable_images(stages)}
    return {"settings": settings, "versions": versions, "images": images, "precision": stages.precision}


def _images(stages, swept: bool = True) -> dict[str, Any]:
    """Facts of the first study's sets, and of those that the defender's images come from, at points of sweeps too."""
    profile, sets = stages.profile, list(stages.profile.further.values())
    downstream = {*profile.downstream, profile.compared, *(name for each in sets for name in each.downstream)}
    wanted = {(name, split) for name in downstream for split in ("train", "test")}
    wanted |= {(source, "train") for source in _sources(profile, swept)}
    found = {f"{name}/{split}": stages.facts(name, split) for name, split in wanted}
    found[f"{profile.pretrain}/{stages.pretraining_split}"] = stages.pretraining_facts
    return {where: dataclasses.asdict(facts) for where, facts in sorted(found.items())}


def _sources(profile: Profile, swept: bool) -> set[str]:
    points = [point for sweep in profile.sweeps for point in sweep.points()] if swept else []
    settings = [*points, *(recipe.settings for recipe in profile.recipes)]
    return {profile.defender.source, *(each.get("defender.source", "") for each in settings)} - {""}


def _data_free_images(stages) -> dict[str, Any]:
    """Facts of the data-free study's sets; what the first study knows stays as it is, and with it its fingerprints."""
    settings = stages.profile.datafree
    if settings is None:
        return {}
    from distill_lib.study.images import PICTURE

    wanted = [(settings.dataset, "train"), (settings.dataset, "test"), (settings.others, "train"), (PICTURE, "train")]
    return _apart(stages, wanted)


def _undistillable_images(stages) -> dict[str, Any]:
    """Likewise of the study of undistillable teachers."""
    settings = stages.profile.undistillable
    if settings is None:
        return {}
    return _apart(stages, [(settings.dataset, "train"), (settings.dataset, "test"), (settings.others, "train")])


def facts(stages) -> dict[str, Any]:
    """Of every image set that the profile's jobs are made from, less what is drawn as the profile says."""
    found, profile = _images(stages), stages.profile
    for own in filter(None, (profile.datafree, profile.undistillable)):
        found |= _apart(stages, [(own.dataset, "train"), (own.dataset, "test"), (own.others, "train")])
    return found


def _apart(stages, wanted: list[tuple[str, str]]) -> dict[str, Any]:
    apart = replace(stages, known={})
    return {f"{name}/{split}": dataclasses.asdict(apart.facts(name, split)) for name, split in wanted}


def about(job: MainJob, device: str | None, data_dir: Path | None) -> dict[str, Any]:
    """For the manifest: the settings, and each image set's source, hash and size."""
    stages = stages_of(job.source, device, data_dir)
    data = {**_undistillable_images(stages), **_data_free_images(stages), **_images(stages)}
    return {"configuration": asdict(job.profile), "data": data, "precision": stages.precision}


def headline(job: MainJob, root: Path) -> str:
    """What a run ends with: means before and after on each downstream set, over the seeds that every line has, the
    paper's sets that are missing, and where all is.
    """
    table = tables.read(root / "results" / job.name / "distillation.csv")
    rows = [row for row in table if int(row["seed"]) < EXPLORATION_SEEDS and row["pretrain"] == job.profile.pretrain]
    lines = [f"{job.name}: means over seeds, in percent"]
    for attack in (job.profile.attack, *job.profile.further):
        for name in dict.fromkeys(row["downstream"] for row in rows if row["attack"] == attack):
            means = _means(job, [row for row in rows if (row["attack"], row["downstream"]) == (attack, name)])
            lines += [f"{f'{attack}, {name}':38s} ACC    ASR  placebo   n", *means] if means else []
    return "\n".join([*lines, *_missing_sets(table), f"figures: figures/{job.name}/   tables: results/{job.name}/"])


def _means(job: MainJob, rows: list[tables.Row]) -> list[str]:
    """Lines for one attack and set."""
    recipe = job.profile.distillation
    wanted = {
        "clean encoder": {"stage": "clean"},
        "attacked": {"stage": "attacked"},
        "clean share alone": {"defence": "clean_share"},
        "fine-tuned": {"defence": "finetune"},
        f"distilled ({recipe.teacher}, {recipe.student}, {recipe.loss})": {
            "defence": "distillation", "teacher": recipe.teacher, "student": recipe.student, "loss": recipe.loss,
        },
    }  # fmt: skip
    found_of = {label: _where(rows, where) for label, where in wanted.items()}
    seeds = [{row["seed"] for row in found} for found in found_of.values() if found]
    shared, lines = set.intersection(*seeds) if seeds else set(), []
    for label, found in found_of.items():
        found = [row for row in found if row["seed"] in shared]
        if found:
            means = [sum(float(row[c]) for row in found) / len(found) for c in ("acc", "asr", "placebo_asr")]
            lines.append(f"{label:36s} {means[0]:5.1f}  {means[1]:5.1f}    {means[2]:5.1f} {len(found):3d}")
    return lines


def _where(rows: list[tables.Row], values: dict[str, str]) -> list[tables.Row]:
    return [row for row in rows if all(row[column] == value for column, value in values.items())]


def _missing_sets(table: list[tables.Row]) -> list[str]:
    """A line on the paper's data sets that no reported row is about; none where all were measured."""
    reported = [row for row in table if int(row["seed"]) < EXPLORATION_SEEDS]
    missing = []
    for column, names in PAPER_SETS.items():
        left = [name for name in names if name not in {row[column] for row in reported}]
        missing += [f"{', '.join(left)} ({WORDS[column]})"] if left else []
    return [f"of the paper's data sets not measured: {'; '.join(missing)}"] if missing else []
