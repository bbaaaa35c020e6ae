"""Figures: each is `numbers_<name>(...) -> dict` and `draw_<name>(numbers) -> Figure`, in one registry.

Nothing here needs torch: a figure is redrawn from its json alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from distill_lib.errors import choose
from distill_lib.plots import files
from distill_lib.plots.acc_asr import alt_acc_asr, draw_acc_asr, numbers_acc_asr
from distill_lib.plots.answers import (
    alt_answers,
    alt_peaks,
    alt_spaces,
    draw_answers,
    draw_peaks,
    draw_spaces,
    numbers_answers,
    numbers_peaks,
    numbers_spaces,
)
from distill_lib.plots.bench import alt_bench, draw_bench, numbers_bench
from distill_lib.plots.comparison import alt_comparison, draw_comparison, numbers_comparison
from distill_lib.plots.curves import alt_curves, draw_curves, numbers_harm, numbers_robustness
from distill_lib.plots.data_free import (
    alt_abd,
    alt_asr_over_training,
    alt_bridge,
    draw_abd,
    draw_asr_over_training,
    draw_bridge,
    numbers_abd,
    numbers_asr_over_training,
    numbers_bridge,
)
from distill_lib.plots.explore import (
    alt_explore,
    alt_places,
    draw_explore,
    draw_places,
    numbers_explore,
    numbers_places,
)
from distill_lib.plots.files import save
from distill_lib.plots.headline import alt_headline, draw_headline, numbers_headline
from distill_lib.plots.injection import alt_injection, draw_injection, numbers_injection
from distill_lib.plots.necessity import alt_necessity, draw_necessity, numbers_necessity
from distill_lib.plots.pictures import alt_pictures, draw_pictures, numbers_label_triggers, numbers_synthetic
from distill_lib.plots.purified import alt_sensitivity, draw_sensitivity, numbers_attention, numbers_sensitivity
from distill_lib.plots.roc_inspect import alt_roc_inspect, draw_roc_inspect, numbers_roc_inspect
from distill_lib.plots.strength import alt_strength, draw_strength, numbers_strength
from distill_lib.plots.summary import plain
from distill_lib.plots.theft import (
    alt_ablation,
    alt_stolen,
    alt_temperatures,
    alt_trade,
    draw_ablation,
    draw_stolen,
    draw_temperatures,
    draw_trade,
    numbers_ablation,
    numbers_stolen,
    numbers_temperatures,
    numbers_trade,
)
from distill_lib.plots.trigger import alt_trigger, draw_trigger, numbers_trigger
from distill_lib.plots.tsne import alt_tsne, draw_tsne, numbers_tsne
from distill_lib.plots.vaccine import alt_vaccine, draw_vaccine, numbers_vaccine


@dataclass(frozen=True)
class Kind:
    """How a figure is drawn from its numbers, and said in words."""

    draw: Callable[[dict], Figure]
    alt: Callable[[dict], str]


_COMPARISON = Kind(draw_comparison, alt_comparison)
_CURVES = Kind(draw_curves, alt_curves)
_PICTURES = Kind(draw_pictures, alt_pictures)
FIGURES = {
    "trigger": Kind(draw_trigger, alt_trigger),
    "injection": Kind(draw_injection, alt_injection),
    "tsne": Kind(draw_tsne, alt_tsne),
    "acc_asr": Kind(draw_acc_asr, alt_acc_asr),
    "teachers": _COMPARISON,
    "students": _COMPARISON,
    "losses": _COMPARISON,
    "strength": Kind(draw_strength, alt_strength),
    "headline": Kind(draw_headline, alt_headline),
    "necessity": Kind(draw_necessity, alt_necessity),
    "harm": _CURVES,
    "robustness": _CURVES,
    "label_triggers": _PICTURES,
    "synthetic": _PICTURES,
    "vaccine": Kind(draw_vaccine, alt_vaccine),
    "asr_over_training": Kind(draw_asr_over_training, alt_asr_over_training),
    "bridge": Kind(draw_bridge, alt_bridge),
    "abd": Kind(draw_abd, alt_abd),
    "answers": Kind(draw_answers, alt_answers),
    "peaks": Kind(draw_peaks, alt_peaks),
    "spaces": Kind(draw_spaces, alt_spaces),
    "stolen": Kind(draw_stolen, alt_stolen),
    "temperatures": Kind(draw_temperatures, alt_temperatures),
    "ablation": Kind(draw_ablation, alt_ablation),
    "trade": Kind(draw_trade, alt_trade),
    "explore": Kind(draw_explore, alt_explore),
    "places": Kind(draw_places, alt_places),
    "roc_inspect": Kind(draw_roc_inspect, alt_roc_inspect),
    "bench": Kind(draw_bench, alt_bench),
    "sensitivity": Kind(draw_sensitivity, alt_sensitivity),
    "attention": _PICTURES,
}


def numbers_teachers(table) -> dict:
    """The teachers, student and loss at the paper's best."""
    return numbers_comparison(table, "teacher")


def numbers_students(table) -> dict:
    """The students, teacher and loss at the paper's best."""
    return numbers_comparison(table, "student")


def numbers_losses(table) -> dict:
    """The losses, teacher and student at the paper's best."""
    return numbers_comparison(table, "loss")


def draw(kind: str, numbers: dict) -> Figure:
    """A figure of the registry, from its numbers.

    Raises:
        UsageError: If there is no such figure; the message lists all.
    """
    return choose("figure", kind, FIGURES).draw(numbers)


def make(kind: str, numbers: dict, folder: Path, name: str | None = None) -> Figure:
    """Draw a figure, save it as png, svg and json, and hand it back to be shown.

    Args:
        kind: Name in the registry.
        numbers: From `numbers_<kind>`.
        folder: Where the files go.
        name: Of the files; None: the kind's.
    """
    numbers = plain(numbers)
    figure = draw(kind, numbers)
    save(figure, folder, name or kind, numbers, FIGURES[kind].alt(numbers), kind)
    return figure


def redraw(path: Path) -> Figure:
    """The figure of a json file that `save` wrote."""
    kind, numbers, _ = files.read(path)
    return draw(kind, numbers)


__all__ = [
    "FIGURES",
    "Kind",
    "draw",
    "make",
    "numbers_abd",
    "numbers_ablation",
    "numbers_acc_asr",
    "numbers_answers",
    "numbers_asr_over_training",
    "numbers_attention",
    "numbers_bench",
    "numbers_bridge",
    "numbers_explore",
    "numbers_harm",
    "numbers_headline",
    "numbers_injection",
    "numbers_label_triggers",
    "numbers_losses",
    "numbers_necessity",
    "numbers_peaks",
    "numbers_places",
    "numbers_robustness",
    "numbers_roc_inspect",
    "numbers_sensitivity",
    "numbers_spaces",
    "numbers_stolen",
    "numbers_strength",
    "numbers_students",
    "numbers_synthetic",
    "numbers_teachers",
    "numbers_temperatures",
    "numbers_trade",
    "numbers_trigger",
    "numbers_tsne",
    "numbers_vaccine",
    "redraw",
    "save",
]
