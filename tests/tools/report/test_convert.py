"""Notebooks as pages: formulas without a network, words for pictures, outputs that scroll by themselves."""

import base64
import json

import pytest

from distill_lib.tools.report.convert import convert, formula

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = [{"output_type": "display_data", "data": {"image/png": PNG, "text/plain": "<Figure>"}, "metadata": {}}]
TABLE = [{"output_type": "execute_result", "execution_count": 1, "metadata": {},
          "data": {"text/html": "<table><tr><td>41.5</td></tr></table>", "text/plain": "41.5"}}]  # fmt: skip


@pytest.fixture
def page(made):
    """Gives the page of a notebook of these cells."""

    def read(*cells):
        path = made.root / "page.html"
        path.write_text(convert(json.dumps(made.notebook(*cells)), made.figures, "A <title>", "<meta name='x'>"))
        return made.page(path)

    return read


@pytest.mark.parametrize(
    "tex",
    [
        r"L_0 = -\cos(f'(x+e), f'(r))",
        r"\sum_i e^{q_i}(q_i - p_i)",
        r"\log_{10} KL(T \| \tilde T)",
        r"A(F) = \sum_c |F_c|^2",
    ],
)
def test_formulas_of_the_notebooks_are_pictures_with_their_tex(page, tex):
    (image,) = page(f"Some ${tex}$ here.").all("img")
    assert image["alt"] == tex
    drawn = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))
    assert b"<svg" in drawn
    assert formula(tex) == formula(tex)  # the same bytes each time


def test_a_formula_that_cannot_be_set_stays_tex(page):
    read = page(r"Some $\begin{nosuch} x$ here.")
    assert not read.all("img")
    assert r"\begin{nosuch} x" in read.text


def test_pictures_have_the_figures_words_or_the_cells_last_line(page, made):
    read = page(
        ('study.figure("trigger", numbers)', PICTURE),
        ('study.figure("nosuch", numbers)', PICTURE),
        ("images = 1\nshow_grid(images)", PICTURE),
    )
    assert [each["alt"] for each in read.all("img")] == [
        "trigger: 12.5 % & more.", 'shown by: study.figure("nosuch", numbers)', "shown by: show_grid(images)",
    ]  # fmt: skip


def test_outputs_can_be_reached_by_keyboard(page):
    read = page(("table", TABLE))
    (output,) = [a for name, a in read.tags if name == "div" and a.get("class") == "output_area"]
    assert (output["tabindex"], output["role"]) == ("0", "region")
    assert "41.5" in read.text


def test_the_title_is_words_and_the_stamp_is_html(page):
    read = page("# One")
    assert "A &lt;title&gt;" in read.source
    assert {"name": "x"} in read.all("meta")
    assert ".highlight" in read.source
