"""Look for a defence that beats the published recipe: exploration seeds and validation images alone.

    python scripts/search_recipes.py laptop --seeds 100
    python scripts/search_recipes.py laptop --seeds 101 --best 3

Tries every recipe of `scripts/recipes.toml`, or the best that the table holds, on each attack's compared set, beside
the published recipe, and ranks them by the worst cell's distance from the goals (`distill_lib/evaluation/goals.py`).
Cells whose attack did not take say nothing; where one attack took nowhere, nothing is searched: another seed may do.
Adds to results/<profile>/recipes.csv as it goes; what the store holds is not trained again. What is chosen goes into
the profile as `[[recipes]]`, and is tested once, by the notebooks.
"""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import pandas

from distill_lib.errors import UsageError
from distill_lib.evaluation.cells import require_exploring
from distill_lib.evaluation.goals import RATES, goals, shortfall
from distill_lib.evaluation.verdicts import NOT_PLANTED
from distill_lib.study.config.fill import fill
from distill_lib.study.config.sweep import RECIPE, Recipe
from distill_lib.study.session import Study, open_study, repository
from distill_lib.study.sweeps import named

CANDIDATES = Path(__file__).with_name("recipes.toml")
WHERE = ["pretrain", "attack", "downstream", "seed"]
CLEAN, ATTACKED = "clean encoder", "attacked encoder"


def candidates(path: Path = CANDIDATES) -> list[Recipe]:
    """The recipes to try, the published one and plain fine-tuning first."""
    found = [fill(Recipe, values) for values in tomllib.loads(path.read_text(encoding="utf-8"))["recipes"]]
    return [Recipe("published", RECIPE), Recipe("fine-tuning alone", "finetune"), *found]


def measured(study: Study, name: str, cell: str, settings: dict[str, Any]) -> list[dict]:
    """Rows on validation images, one an attack, downstream set and seed.

    Args:
        study: The study.
        name: What the rows are called.
        cell: `clean`, `attacked`, or as in a recipe.
        settings: Off the profile's, by dotted key.
    """
    rows = study.validated(named(study, study.compared(), cell), settings)[[*WHERE, *RATES, "n_test"]]
    about = {"recipe": name, "cell": cell, "settings": json.dumps(settings, sort_keys=True)}
    return [{**about, **row} for row in rows.to_dict("records")]


def planted(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of the cells that an attack took in, by the rule of the verdicts.

    Raises:
        UsageError: If an attack took in no cell at all: a recipe would be chosen on the others alone.
    """
    clean, attacked = (table[table["recipe"] == name] for name in (CLEAN, ATTACKED))
    cells = goals(attacked, clean, attacked)
    kept = table.merge(cells.loc[cells["met"] != NOT_PLANTED, WHERE[:3]])
    missing = sorted(set(table["attack"]) - set(kept["attack"]))
    if missing:
        seeds = sorted(set(table["seed"].tolist()))
        raise UsageError(f"attack {missing[0]!r} is not planted on seeds {seeds}; allowed: seeds where each attack is")
    return kept


def ranked(table: pandas.DataFrame) -> pandas.DataFrame:
    """Recipes by the worst cell's shortfall, the best first; which cell that is; ACC and ASR, means over all cells."""
    kept = planted(table)
    clean, attacked = (kept[kept["recipe"] == name] for name in (CLEAN, ATTACKED))
    rows = []
    for name, tried in kept[~kept["recipe"].isin([CLEAN, ATTACKED])].groupby("recipe", sort=False):
        cells = tried.groupby(["attack", "downstream"], sort=False)
        missed = {"/".join(place): shortfall(part, clean, attacked) for place, part in cells}
        worst = max(missed, key=missed.get)
        rows.append({"recipe": name, "shortfall": missed[worst], "worst": worst, **tried[["acc", "asr"]].mean()})
    return pandas.DataFrame(rows).sort_values("shortfall", kind="stable")


def filed(path: Path, rows: list[dict]) -> pandas.DataFrame:
    """The table with the rows added, written; a row replaces that of the same recipe and place."""
    table = pandas.DataFrame(rows)
    if path.is_file():
        table = pandas.concat([pandas.read_csv(path), table])
    table = table.drop_duplicates(["recipe", *WHERE], keep="last").sort_values(["seed"], kind="stable")
    table.to_csv(path, index=False)
    return table


def search(study: Study, path: Path, recipes: list[Recipe]) -> pandas.DataFrame:
    """Measure the recipes on the study's seeds, filing as it goes; the rows of these seeds."""
    rows = measured(study, CLEAN, "clean", {}) + measured(study, ATTACKED, "attacked", {})
    planted(pandas.DataFrame(rows))
    for recipe in recipes:
        new = measured(study, recipe.name, recipe.cell, recipe.settings)
        rows += new
        filed(path, rows)
        print(pandas.DataFrame(new)[["recipe", "attack", "downstream", *RATES]].round(1).to_string(), flush=True)
    return pandas.DataFrame(rows)


def best(path: Path, count: int) -> list[Recipe]:
    """The published recipe, fine-tuning alone and the best others of the table.

    Raises:
        UsageError: If there is no table.
    """
    if not path.is_file():
        raise UsageError(f"--best {count} needs {path.name} of an earlier search; allowed: to search all first")
    order = list(ranked(pandas.read_csv(path))["recipe"])
    published, plain, *others = candidates()
    known = {recipe.name: recipe for recipe in others}
    return [published, plain, *[known[name] for name in order if name in known][:count]]


def main() -> None:
    """Try all, write the table, print the ranking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--best", type=int, default=0, metavar="N", help="only the N that the table ranks best")
    args = parser.parse_args()
    try:
        require_exploring(args.seeds)
        study = open_study(args.profile, seeds=args.seeds)
        path = repository() / "results" / study.profile.name / "recipes.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = search(study, path, best(path, args.best) if args.best else candidates())
    except UsageError as error:
        parser.error(str(error))
    print(ranked(found).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
