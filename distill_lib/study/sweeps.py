"""What is measured beside the main table: sweeps of the profile, and its own recipes."""

import json
from fnmatch import fnmatch
from typing import Any

import pandas

from distill_lib.evaluation.cells import shared_seeds
from distill_lib.evaluation.goals import goals
from distill_lib.plots import draw, numbers_robustness
from distill_lib.study.cells import DISTILLATION_COLUMNS, Cell
from distill_lib.study.config.sweep import RECIPE, STAGES, Recipe, Sweep
from distill_lib.study.session import Study, rows_like
from distill_lib.study.tables import word

WHERE = ("pretrain", "attack", "downstream")
SWEPT_COLUMNS = ("sweep", "axis", "x", "line", *DISTILLATION_COLUMNS)
NOTHING = "This profile has no such sweep."
USUAL = "as usual"  # a value that says nothing: the pre-training set as the source of clean images


def named(study: Study, bases: list[Cell], name: str) -> list[Cell]:
    """The cells that a sweep's word stands for, on attacked cells."""
    if name in STAGES:
        return [study.clean(b.downstream, b.seed, b.attack) for b in bases] if name == "clean" else bases
    if name == RECIPE:
        return study.recipe(bases)
    parts = name.split("/")
    if len(parts) == 3:
        return [base.distilled(*parts) for base in bases]
    return study.defence(bases, name)


def swept(study: Study, sweep: Sweep) -> pandas.DataFrame:
    """Measure a sweep; its rows, those of earlier runs' seeds among them.

    Returns:
        Columns: `sweep`, `axis`, `x` and `line` as text, then those of the result table.
    """
    bases = _bases(study, sweep)
    return pandas.concat([_point(study, sweep, bases, point) for point in sweep.points()], ignore_index=True)


def _bases(study: Study, sweep: Sweep) -> list[Cell]:
    """The attacked cells that a sweep is measured on."""
    attack = sweep.attack or study.profile.attack
    sets = study.attacks()[attack]
    where = sets.compared or sets.downstream[0]
    return [study.attacked(where, seed, attack) for seed in study.profile.swept_seeds or sets.compared_seeds]


class Sweeps:
    """The sweeps of one figure of a profile, each measured once."""

    def __init__(self, study: Study, figure: str):
        self.study = study
        self.all = [sweep for sweep in study.profile.sweeps if sweep.figure == figure]
        self.found: dict[int, pandas.DataFrame] = {}  # by place in `all`: several attacks' sweeps share a name

    def plan(self) -> pandas.DataFrame:
        """What there is to measure, a row a sweep."""
        attack = self.study.profile.attack
        rows = [(s.name, s.attack or attack, _values(s.vary), _values(s.fixed), ", ".join(s.cells)) for s in self.all]
        return pandas.DataFrame(rows, columns=["sweep", "attack", "vary", "fixed", "cells"])

    def prepare(self) -> None:
        """Make what all sweeps take, several cells at once, before section after section is looked at."""
        self.study.prepare([each for sweep in self.all for each in wanted(self.study, sweep)])

    def section(self, *names: str) -> pandas.DataFrame | str:
        """Measure the sweeps of these names (`*`: any end); means by value and line. A sentence where there is none."""
        found = self._named(names)
        return overview(pandas.concat(found)) if found else NOTHING

    def show(self, *names: str) -> None:
        """Show the section's table with its panels, or its sentence, in a notebook."""
        from IPython.display import display

        display(self.section(*names))
        if found := self._named(names):
            display(draw("robustness", numbers_robustness(pandas.concat(found))))

    def rows(self) -> pandas.DataFrame:
        """The rows of all sweeps, those measured that no section has asked for."""
        found = [self._measured(place) for place in range(len(self.all))]
        none = pandas.DataFrame(columns=list(SWEPT_COLUMNS))
        return pandas.concat(found, ignore_index=True) if found else none

    def _named(self, names: tuple[str, ...]) -> list[pandas.DataFrame]:
        """The rows of the sweeps whose name is one of these, or begins with one that ends in `*`."""
        places = [at for at, sweep in enumerate(self.all) if any(fnmatch(sweep.name, name) for name in names)]
        return [self._measured(place) for place in places]

    def _measured(self, place: int) -> pandas.DataFrame:
        if place not in self.found:
            self.found[place] = swept(self.study, self.all[place])
        return self.found[place]


def overview(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Means of each line at each value, over the seeds that every point of its sweep has, and how many these are.

    Args:
        rows: As from `swept`.

    Returns:
        Rows: sweep and value. Columns: `acc`, `asr` and `placebo`, the ASR of another trigger, and `n` by line.
    """
    parts = [shared_seeds(found, ["x", "line"]) for _, found in rows.groupby(["sweep", *WHERE], sort=False)]
    shown = _apart(pandas.concat(parts).astype({"acc": float, "asr": float, "placebo_asr": float}))
    index = pandas.MultiIndex.from_frame(shown[["sweep", "x"]].drop_duplicates())
    grouped = shown.groupby(["sweep", "x", "line"], sort=False)
    means = grouped.agg(
        acc=("acc", "mean"), asr=("asr", "mean"), placebo=("placebo_asr", "mean"), n=("seed", "nunique")
    )
    means = means.unstack("line")
    return means.reindex(index).round(1)


def _apart(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Sweeps of one name under several attacks, or on several sets, with these in their names: they have no mean."""
    several = rows.groupby("sweep")[list(WHERE)].transform("nunique").max(axis=1) > 1
    longer = rows["sweep"] + " (" + rows["attack"] + ", " + rows["pretrain"] + " to " + rows["downstream"] + ")"
    return rows.assign(sweep=rows["sweep"].where(~several, longer))


def wanted(study: Study, sweep: Sweep) -> list[tuple[Cell, dict[str, Any]]]:
    """All that a sweep measures, line by line: the points of a line share least."""
    bases = _bases(study, sweep)
    return [(cell, point) for name in sweep.cells for point in sweep.points() for cell in named(study, bases, name)]


def _point(study: Study, sweep: Sweep, bases: list[Cell], point: dict[str, Any]) -> pandas.DataFrame:
    first, *others = sweep.vary
    cells = {name: named(study, bases, name) for name in sweep.cells}
    study.measure([cell for each in cells.values() for cell in each], point)
    rows = study.whole([each[0] for each in cells.values()], point)
    apart = [_words(sweep, key, point[key]) for key in sweep.panels]
    about = {"sweep": _joined([sweep.name, *apart]), "axis": sweep.axis, "x": word(point[first]) or USUAL}
    parts = []
    for name, each in cells.items():
        words = [sweep.words.get(name, name)]
        words += [_words(sweep, key, point[key]) for key in others if key not in sweep.panels]
        parts.append(rows_like(rows, each[0]).assign(**about, line=_joined(words)))
    return pandas.concat(parts)[list(SWEPT_COLUMNS)]


def _values(settings: dict[str, Any]) -> str:
    """Settings and their values for people."""
    return "; ".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())


def _joined(words: list[str]) -> str:
    return ", ".join(filter(None, words))


def _words(sweep: Sweep, key: str, value: Any) -> str:
    text = f"{key.rpartition('.')[2].replace('_', ' ')} {word(value)}"
    return sweep.words.get(text, text)


def tested(study: Study, bases: list[Cell]) -> pandas.DataFrame:
    """The profile's own recipes, and for comparison the published one and fine-tuning alone, against the goals.

    Args:
        study: The study.
        bases: Attacked cells; each counts at every seed measured so far.

    Returns:
        Columns: `recipe`, those of `goals`.
    """
    clean, attacked = (everywhere(study, named(study, bases, stage)) for stage in STAGES)
    study.prepare(to_test(study, bases))
    found = []
    for recipe in _recipes(study):
        rows = everywhere(study, named(study, bases, recipe.cell), recipe.settings)
        found.append(goals(rows, clean, attacked).assign(recipe=recipe.name))
    table = pandas.concat(found, ignore_index=True)
    return table[["recipe", *table.columns.drop("recipe")]]


def to_test(study: Study, bases: list[Cell]) -> list[tuple[Cell, dict[str, Any] | None]]:
    """What `tested` measures of the recipes."""
    return [(cell, each.settings) for each in _recipes(study) for cell in named(study, bases, each.cell)]


def _recipes(study: Study) -> list[Recipe]:
    return [Recipe("published", RECIPE), Recipe("fine-tuning alone", "finetune"), *study.profile.recipes]


def everywhere(study: Study, cells: list[Cell], settings: dict[str, Any] | None = None) -> pandas.DataFrame:
    """Measure cells; their rows with those of earlier runs' seeds."""
    study.measure(cells, settings)
    return study.whole(cells, settings)
