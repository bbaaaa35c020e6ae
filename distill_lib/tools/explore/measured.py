"""What was measured at other settings: the points that exist, and the nearest to the one asked for."""

import html
import math
from typing import Any

import ipywidgets as widgets
import pandas

from distill_lib.evaluation.cells import shared_seeds
from distill_lib.study.session import Study
from distill_lib.tools.explore.sources import attacked_cell

COLUMNS = ("line", "value", "acc", "asr", "n", "seeds")
NOTHING = "Nothing has been run yet along this setting."
WEIGHT, SHARE = "weight of the loss", "share of clean images"


def weights(study: Study) -> pandas.DataFrame:
    """The weights that each loss was tried at: a row a loss and weight, means over exploration seeds."""
    rows = study.tuning().rename(columns={"loss": "line", "weight": "value"})
    return _means(rows)


def shares(study: Study) -> pandas.DataFrame:
    """The shares of clean images that defences were run with: a row a defence and share.

    Means are over the seeds that a defence has at each of its shares. Rows of a share off the profile's own come from
    `sweeps.csv`, the others from `distillation.csv`; all are of the set where the explorer is.
    """
    cell, key = attacked_cell(study), "defender.share"
    swept = study.filed("sweeps")
    values = {float(each) for each in swept.loc[swept["setting"] == key, "value"]} | {study.profile.defender.share}
    found = pandas.concat([study.table({key: value}).assign(value=value) for value in sorted(values)])
    here = (found["attack"] == cell.attack) & (found["downstream"] == cell.downstream) & (found["stage"] == "defended")
    found = found[here & (found["pretrain"] == cell.pretrain)]
    names = found[["teacher", "student", "loss"]].agg(" / ".join, axis=1) if len(found) else found["defence"]
    rows = found.assign(line=names.where(found["defence"] == "distillation", found["defence"]))
    along = [each for _, each in rows.groupby("line", sort=False) if each["value"].nunique() > 1]
    return _means(pandas.concat([rows.iloc[:0], *(shared_seeds(each, ["value"]) for each in along)]))


def _means(rows: pandas.DataFrame) -> pandas.DataFrame:
    rows = rows.astype({"acc": float, "asr": float, "seed": int, "value": float})
    found = rows.groupby(["line", "value"], sort=False).agg(
        acc=("acc", "mean"),
        asr=("asr", "mean"),
        n=("seed", "nunique"),
        seeds=("seed", lambda seeds: ", ".join(map(str, sorted(set(seeds))))),
    )
    return found.reset_index().sort_values(["line", "value"], ignore_index=True)[list(COLUMNS)]


def nearest(values: list[float], asked: float) -> float:
    """The value nearest to the one asked for, on a logarithmic scale; of two as near the smaller."""
    return min(sorted(values), key=lambda value: round(abs(math.log(value / asked)), 9))


class Settings(widgets.VBox):
    """Two handles over what was run: the weight of a loss, and the defender's share of clean images.

    Attributes:
        handles: `line` and `asked` of each of the two.
        words: What was measured there.
    """

    def __init__(self, study: Study):
        tables = {WEIGHT: weights(study), SHARE: shares(study)}
        notes = {WEIGHT: "validation images", SHARE: "test images"}
        self.handles: dict[str, dict[str, Any]] = {}
        self.words: dict[str, widgets.HTML] = {}
        super().__init__([self._part(what, table, notes[what]) for what, table in tables.items()])

    def _part(self, what: str, table: pandas.DataFrame, note: str) -> widgets.Widget:
        self.words[what] = widgets.HTML()
        if table.empty:
            self.words[what].value = f"{what}: {NOTHING}"
            return self.words[what]
        lines = dict(list(table.groupby("line", sort=False)))
        line = widgets.Dropdown(options=list(lines), description="of")
        look = {"style": {"description_width": "150px"}, "layout": widgets.Layout(width="480px")}
        asked = widgets.FloatLogSlider(min=-9, max=9, step=0.05, description=what, readout_format=".3r", **look)
        self.handles[what] = {"line": line, "asked": asked}

        def said(change: Any = None) -> None:
            self.words[what].value = measured_words(lines[line.value], asked.value, note)

        def bounded(change: Any = None) -> None:
            values = lines[line.value]["value"]
            asked.min, asked.max = -9, 9  # a lower end above the upper one is refused, even for a moment
            asked.max, asked.min = (math.log10(edge) for edge in (values.max(), values.min()))
            said()

        line.observe(bounded, "value")
        asked.observe(said, "value")
        bounded()
        return widgets.VBox([widgets.HBox([asked, line]), self.words[what]])


def measured_words(rows: pandas.DataFrame, asked: float, note: str) -> str:
    """All points that were run, the nearest marked, and that nothing lies between them."""
    chosen = nearest(rows["value"].tolist(), asked)
    exact = math.isclose(chosen, asked, rel_tol=0.02)
    where = "was run" if exact else f"was not run, and nothing is interpolated; the nearest that was: {chosen:g}"
    head = "".join(f"<th>{name}</th>" for name in ("value", "ACC (%)", "ASR (%)", "n", "seeds"))
    body = "".join(_row(row, row.value == chosen) for row in rows.itertuples())
    return f"{float(f'{asked:.3g}'):g} {where} ({note}).<table><tr>{head}</tr>{body}</table>"


def _row(row: Any, chosen: bool) -> str:
    cells = [f"{row.value:g}", f"{row.acc:.1f}", f"{row.asr:.1f}", str(row.n), html.escape(row.seeds)]
    style = ' style="background:#F0E442"' if chosen else ""
    marked = [f"<b>{cell}</b>" if chosen else cell for cell in cells]
    return f"<tr{style}>{''.join(f'<td>{cell}</td>' for cell in marked)}</tr>"
