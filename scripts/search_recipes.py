"""Look for a defence that beats the published recipe: exploration seeds and validation images alone.

    python scripts/search_recipes.py laptop --seeds 100

Tries every recipe of `scripts/recipes.toml` on every attack of the profile and each of its downstream sets, beside the
published recipe, and ranks them by the worst cell's distance from the goals (`distill_lib/evaluation/goals.py`); cells
whose attack did not take are left out. Writes results/<profile>/recipes.csv as it goes; what the store holds is not
trained again. What is chosen goes into the profile as `[[recipes]]`, and is tested once, by the notebooks.
"""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import pandas

from distill_lib.errors import UsageError
from distill_lib.evaluation.goals import RATES, shortfall
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
    rows = study.validated(named(study, study.everywhere(), cell), settings)[[*WHERE, *RATES, "n_test"]]
    about = {"recipe": name, "cell": cell, "settings": json.dumps(settings, sort_keys=True)}
    return [{**about, **row} for row in rows.to_dict("records")]


def ranked(table: pandas.DataFrame) -> pandas.DataFrame:
    """Recipes by the worst cell's shortfall, the best first; ASR and ACC are means over all cells."""
    clean, attacked = (table[table["recipe"] == name] for name in (CLEAN, ATTACKED))
    tried = table[~table["recipe"].isin([CLEAN, ATTACKED])]
    means = tried.groupby("recipe", sort=False)[["acc", "asr"]].mean().reset_index()
    missed = [shortfall(tried[tried["recipe"] == name], clean, attacked) for name in means["recipe"]]
    means.insert(1, "shortfall", missed)
    return means.sort_values("shortfall", kind="stable")


def main() -> None:
    """Try all, write the table, print the ranking."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    args = parser.parse_args()
    if min(args.seeds) < 100:
        parser.error(f"--seeds {args.seeds} holds reported seeds; exploration seeds start at 100")
    try:
        study = open_study(args.profile, seeds=args.seeds)
    except UsageError as error:
        parser.error(str(error))
    path = repository() / "results" / study.profile.name / "recipes.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = measured(study, CLEAN, "clean", {}) + measured(study, ATTACKED, "attacked", {})
    for recipe in candidates():
        rows += measured(study, recipe.name, recipe.cell, recipe.settings)
        table = pandas.DataFrame(rows)
        table.to_csv(path, index=False)
        shown = table[table["recipe"] == table["recipe"].iloc[-1]][["recipe", "attack", "downstream", *RATES]]
        print(shown.round(1), flush=True)
    print(ranked(table).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
