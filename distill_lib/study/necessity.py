"""What a defence needs: the recipe with an ingredient less, every plain defence beside it, and what each costs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas

from distill_lib.evaluation.cells import SCOPE, shared_seeds
from distill_lib.study.cells import DISTILLATION_COLUMNS, Cell
from distill_lib.study.components import DEFENCES
from distill_lib.study.config.sweep import RECIPE
from distill_lib.study.session import Study
from distill_lib.study.stale import Naming, cell_of
from distill_lib.study.store import Artefact, Store
from distill_lib.study.sweeps import everywhere, named

PRICE_COLUMNS = ("steps", "wall_s", "peak_rss_mb", "peak_device_mb")


@dataclass(frozen=True)
class Ingredient:
    """A row of the necessity table: a defence, or the recipe with one ingredient taken away.

    Attributes:
        row: Its name in the table.
        cell: As in a sweep.
        changes: Components of the recipe that are another one.
        settings: Settings that are others.
        free: Parts of the making that it could do without, which its price leaves out.
    """

    row: str
    cell: str = RECIPE
    changes: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    free: tuple[str, ...] = ()


def ingredients(study: Study) -> list[Ingredient]:
    """All rows, the recipe first.

    A recipe with an ingredient less distils for as many steps as the recipe: what it saves (a second view, a teacher's
    fine-tuning) would else go into a longer distillation. With a distillation weight of 0 the warmed-up student trains
    on alone, and needs no teacher.
    """
    recipe = study.profile.distillation
    steps = study.stages.distillation(recipe.teacher, recipe.student, recipe.loss).schedule.steps
    same, no_loss = {"distillation.steps": steps}, {f"distillation.weights.{recipe.loss}": 0.0}
    return [
        Ingredient("recipe"),
        Ingredient("recipe, NT-Xent weight 0", settings={"distillation.nt_xent_weight": 0.0, **same}),
        Ingredient("recipe, distillation weight 0", settings=no_loss, free=("teacher",)),
        Ingredient("recipe, clean teacher", changes={"teacher": "clean"}, settings=same),
        Ingredient("recipe, random teacher", changes={"teacher": "random"}, settings=same),
        *(Ingredient(name, name) for name in DEFENCES),
    ]


def necessity(study: Study, bases: list[Cell]) -> pandas.DataFrame:
    """Measure every row of the necessity table on attacked cells; its rows, those of earlier runs' seeds among them.

    Returns:
        Columns: `row`, those of the result table, `steps` (of the last training), `wall_s` (seconds), `peak_rss_mb` and
        `peak_device_mb`: the price of the defence with its teacher and warm-up. The last four are empty for seeds whose
        encoders are not in this store. Only seeds that every row of a set has are in the table.
    """
    study.prepare(needed(study, bases))
    rows = pandas.concat([_priced(study, bases, each) for each in ingredients(study)], ignore_index=True)
    shared = [shared_seeds(found, ["row"]) for _, found in rows.groupby(list(SCOPE), sort=False)]
    return pandas.concat([rows.iloc[:0], *shared])[["row", *DISTILLATION_COLUMNS, *PRICE_COLUMNS]]


def needed(study: Study, bases: list[Cell]) -> list[tuple[Cell, dict[str, Any] | None]]:
    """What `necessity` measures."""
    return [(cell, each.settings) for each in ingredients(study) for cell in _cells(study, bases, each)]


def _cells(study: Study, bases: list[Cell], one: Ingredient) -> list[Cell]:
    return study.recipe(bases, **one.changes) if one.cell == RECIPE else named(study, bases, one.cell)


def _priced(study: Study, bases: list[Cell], one: Ingredient) -> pandas.DataFrame:
    rows = everywhere(study, _cells(study, bases, one), one.settings)
    found = prices(study, map(cell_of, rows.to_dict("records")), one.settings, one.free).astype({"seed": int})
    identity = ["attack", "downstream", "seed"]
    return rows.merge(found[[*identity, *PRICE_COLUMNS]], "left", identity).assign(row=one.row)


def prices(
    study: Study, cells: Iterable[Cell], settings: dict[str, Any] | None = None, free: Collection[str] = ()
) -> pandas.DataFrame:
    """Steps, seconds and peak memory of each cell's defence, its teacher and warm-up included.

    Args:
        study: The study.
        cells: Those whose encoder is not in the store are left out; nothing is computed.
        settings: Other settings of the profile, by dotted key.
        free: `teacher` or `student`: parts of the making that the defence could do without, and that do not count.

    Returns:
        The cell's columns, `steps` (of the last training), `wall_s`, `peak_rss_mb` and `peak_device_mb` (empty where no
        GPU was used).
    """
    found = [(cell, _stored(study, cell, settings)) for cell in cells]
    rows = [{**cell.identity(), **_price(study.stages.store, each, free)} for cell, each in found if each]
    return pandas.DataFrame(rows, columns=[*(each.name for each in fields(Cell)), *PRICE_COLUMNS])


def _stored(study: Study, cell: Cell, settings: dict[str, Any] | None) -> Artefact | None:
    """The encoder of a cell where the store has it."""
    stages = study.under(cell.attack, settings)
    known = replace(stages, store=Naming(stages.store.root)).encoder_of(cell)
    return stages.store.find(known.kind, known.key)


def _price(store: Store, artefact: Artefact, free: Collection[str]) -> dict[str, Any]:
    costs = list(_costs(store, artefact, free))
    peaks = {name: _largest(each.get(name) for each in costs) for name in ("peak_rss_mb", "peak_device_mb")}
    return {"steps": _steps(artefact.config), "wall_s": sum(each["wall_s"] for each in costs), **peaks}


def _costs(store: Store, artefact: Artefact, free: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """The costs of an artefact and of the defender's artefacts that it was made from."""
    yield artefact.cost
    for part in ("start", "teacher", "student"):
        for kind in ("repaired", "distilled") if part not in free else ():
            found = store.find(kind, str(artefact.config.get(part)))
            if found:
                yield from _costs(store, found)


def _steps(config: dict[str, Any]) -> int | None:
    """Of the last training that an artefact's configuration tells of."""
    inner = config.get("distil") or config.get("fine_pruning", {}).get("finetuning") or config
    return inner.get("schedule", {}).get("steps")


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
