"""What holds for every figure: saved, redrawn without torch, the same bytes again, empty tables said."""

import json
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from distill_lib import plots
from distill_lib.errors import UsageError

NAMES = ("trigger", "injection", "tsne", "acc_asr", "teachers", "students", "losses", "headline")
TABLES = ("acc_asr", "teachers", "students", "losses", "headline")


def pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def test_the_registry_holds_the_studys_figures():
    assert tuple(plots.FIGURES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_saved_thrice_and_redrawn_from_its_json(name, every_figure, tmp_path):
    figure = plots.make(name, every_figure[name], tmp_path)
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("json", b"{")):
        data = (tmp_path / f"{name}.{suffix}").read_bytes()
        assert data.startswith(start)
        assert len(data) < 150_000
    saved = json.loads((tmp_path / f"{name}.json").read_text())
    assert saved["figure"] == name
    assert len(saved["alt"]) > 40
    assert saved["numbers"] == every_figure[name]
    np.testing.assert_array_equal(pixels(plots.redraw(tmp_path / f"{name}.json")), pixels(figure))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_give_the_same_bytes_and_no_new_files(name, every_figure, tmp_path):
    plots.make(name, every_figure[name], tmp_path / "a")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "a").iterdir()}
    plots.make(name, every_figure[name], tmp_path / "a")
    plots.make(name, every_figure[name], tmp_path / "b")
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "a").iterdir()} == before
    assert {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()} == {
        n: d for n, (d, _) in before.items()
    }
    assert len(before) == 3


def test_figures_are_redrawn_without_torch(every_figure, tmp_path):
    for name in NAMES:
        plots.make(name, every_figure[name], tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None\n"  # an import of torch would fail
        "from pathlib import Path\n"
        "from distill_lib import plots\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.json')): plots.redraw(path).savefig(path.with_suffix('.pdf'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "print(len(list(Path(sys.argv[1]).glob('*.pdf'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(len(NAMES)), done.stderr


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table_is_said(name, few, tmp_path):
    numbers = getattr(plots, f"numbers_{name}")(few.iloc[:0])
    figure = plots.make(name, numbers, tmp_path)
    assert " yet" in texts(figure)
    assert (tmp_path / f"{name}.json").exists()


@pytest.mark.parametrize("name", TABLES)
def test_n_and_the_intervals_meaning_are_in_the_figure(name, few, many):
    numbers = getattr(plots, f"numbers_{name}")
    words = texts(plots.draw(name, numbers(few))).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert "n = 2 seeds" in words
    assert "no interval" in words
    words = texts(plots.draw(name, numbers(many))).replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert "n = 2 to 4 seeds" in words
    assert "95 % t interval" in words


@pytest.mark.parametrize("name", NAMES)
def test_no_words_overlap_or_leave_the_figure(name, every_figure):
    figure = plots.draw(name, every_figure[name])
    pixels(figure)
    page = figure.bbox
    shown = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown if _inside_its_axes(t)]
    for words, box in boxes:
        assert box.x0 >= page.x0 - 2, words
        assert box.x1 <= page.x1 + 2, words
        assert box.y0 >= page.y0 - 2, words
        assert box.y1 <= page.y1 + 2, words
    for i, (words, box) in enumerate(boxes):
        for others, other in boxes[i + 1 :]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide < 2 or high < 2, (words, others)


def _inside_its_axes(text) -> bool:
    """Tick labels beyond an axis' limits are not drawn."""
    axes = text.axes
    if axes is None:
        return True
    if not axes.axison and text not in axes.get_legend().get_texts():
        return False
    for axis, i in ((axes.xaxis, 0), (axes.yaxis, 1)):
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if text in (tick.label1, tick.label2):
                low, high = sorted((axes.get_xlim(), axes.get_ylim())[i])
                return low <= tick.get_loc() <= high and text is tick.label1
    return True


def test_drawing_leaves_matplotlibs_settings_alone(every_figure):
    before = dict(mpl.rcParams)
    plots.draw("headline", every_figure["headline"])
    assert dict(mpl.rcParams) == before


def test_a_notebook_shows_a_figure_without_pyplot(every_figure):
    assert plots.draw("headline", every_figure["headline"])._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_figure_lists_the_known_ones():
    with pytest.raises(UsageError, match="allowed: trigger, injection"):
        plots.draw("pie", {})


def test_alt_text_stands_in_the_svg_and_the_png(every_figure, tmp_path):
    from PIL import Image

    plots.make("headline", every_figure["headline"], tmp_path)
    alt = json.loads((tmp_path / "headline.json").read_text())["alt"]
    assert Image.open(tmp_path / "headline.png").info["Description"] == alt
    assert "80.87 to 27.51" in (tmp_path / "headline.svg").read_text()
    assert "<dc:date>" not in (tmp_path / "headline.svg").read_text()
