"""A notebook as a page: readable without Jupyter and without a network, at any width, by ear."""

import base64
import io
import re
from pathlib import Path

import matplotlib as mpl
import nbformat
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from distill_lib.plots import files
from distill_lib.tools.report.templates import render

SHOWN = re.compile(r'study\.figure\(\s*"(\w+)"')
_SIZE = 12  # points of a formula; its place on the page is told in multiples of it
# Wide tables scroll by themselves: the keyboard must reach them.
_OUTPUT = '<div class="output_area">', '<div class="output_area" tabindex="0" role="region" aria-label="output">'


class Renderer(IPythonRenderer):
    """Draws formulas itself: the usual way has the reader load a program for it."""

    def inline_math(self, body: str) -> str:
        """A formula within a line."""
        return formula(body) or f"<code>{escape(body)}</code>"

    def block_math(self, body: str) -> str:
        """A formula of its own."""
        return f'<span class="block">{self.inline_math(body)}</span>'


def convert(text: str, figures: Path, title: str, stamp: str) -> str:
    """The page of an executed notebook.

    Args:
        text: The notebook's file.
        figures: Folder of the figures whose words describe its pictures.
        title: Of the page.
        stamp: A line of its head, as HTML.

    Raises:
        ValueError: If the text is no notebook.
    """
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"not a notebook: {str(error)[:80]}") from error
    describe(notebook, figures)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", _markdown)
    body = exporter.from_notebook_node(notebook)[0].replace(*_OUTPUT)
    return render("notebook.html.j2", title=title, stamp=Markup(stamp), body=Markup(body), colours=Markup(_colours()))


def describe(notebook: nbformat.NotebookNode, figures: Path) -> None:
    """Give words to the pictures of each cell: those of the figure that it draws, else its last line."""
    for cell in notebook.cells:
        lines = cell.source.strip().splitlines()
        if cell.cell_type == "code" and lines:
            named = SHOWN.search(cell.source)
            words = _alt(figures / f"{named[1]}.json") if named else ""
            cell.metadata["alt"] = words or f"shown by: {lines[-1].strip()}"


def formula(tex: str) -> str | None:
    """A formula as a picture with its TeX as words; None where matplotlib cannot set it."""
    text, font, buffer = f"${' '.join(tex.split())}$", FontProperties(size=_SIZE), io.BytesIO()
    try:
        width, height, depth, *_ = MathTextParser("path").parse(text, dpi=72, prop=font)
    except ValueError:
        return None
    with mpl.rc_context({"svg.hashsalt": "distill_lib", "svg.fonttype": "path"}):
        figure = Figure(figsize=(width / 72, height / 72))
        figure.text(0, depth / height, text, fontproperties=font)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    source = base64.b64encode(buffer.getvalue()).decode()
    place = f"height:{height / _SIZE:.2f}em;vertical-align:{-depth / _SIZE:.2f}em"
    return f'<img class="formula" alt="{escape(tex)}" style="{place}" src="data:image/svg+xml;base64,{source}">'


def _markdown(text: str) -> str:
    return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True)).render(text)


def _colours() -> str:
    """The colours of code, by day and by night."""
    day, night = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    return f"{day}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}"


def _alt(figure: Path) -> str:
    try:
        return str(files.read(figure)[2])
    except (OSError, ValueError, KeyError):
        return ""
