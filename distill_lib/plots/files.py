"""Figures on disk: png, svg and the numbers drawn, rewritten only when their bytes change."""

import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from distill_lib.plots.style import DPI, STYLE
from distill_lib.plots.summary import plain

_LINE_ART = 10_000  # colours, those of smoothed edges included
_CLIP = re.compile(rb'(?<=url\(#)p[0-9a-f]{10}(?=\))|(?<=<clipPath id=")p[0-9a-f]{10}(?=")')


def save(figure: Figure, folder: Path, name: str, numbers: dict, alt: str, kind: str | None = None) -> list[Path]:
    """Write `<name>.png`, `<name>.svg` and `<name>.json` (kind, alt text, the numbers drawn).

    Args:
        figure: What `draw_<kind>(numbers)` gave.
        folder: Made where missing.
        name: Of the files.
        numbers: What was drawn.
        alt: The figure in words, for those who do not see it; stored in all three files.
        kind: Name in the registry of figures; None: the same as `name`.

    Returns:
        The three paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "png": _render(figure, "png", {"Software": None, "Description": alt}),
        "svg": _render(figure, "svg", {"Date": None, "Creator": None, "Title": name, "Description": alt}),
        "json": _json({"figure": kind or name, "alt": alt, "numbers": plain(numbers)}),
    }
    paths = [folder / f"{name}.{suffix}" for suffix in content]
    for path, data in zip(paths, content.values(), strict=True):
        write_if_changed(path, data)
    return paths


def read(path: Path) -> tuple[str, dict, str]:
    """Kind, numbers and alt text of a figure's json."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return content["figure"], content["numbers"], content["alt"]


def write_if_changed(path: Path, data: bytes) -> bool:
    """Replace a file in one step, unless it holds these bytes already; says whether it was written."""
    if path.is_file() and path.read_bytes() == data:
        return False
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _render(figure: Figure, suffix: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
    return {"png": _smaller, "svg": _numbered}[suffix](buffer.getvalue())


def _numbered(svg: bytes) -> bytes:
    """The same with clip paths named in order: their usual names hash places whose last digit differs by the run."""
    order: dict[bytes, bytes] = {}
    return _CLIP.sub(lambda found: order.setdefault(found[0], b"clip%d" % (len(order) + 1)), svg)


def _smaller(png: bytes) -> bytes:
    """The same picture with a palette: a third of the bytes. Photographs (too many colours) stay."""
    image = Image.open(io.BytesIO(png))
    colours = image.convert("RGB")
    if colours.getcolors(_LINE_ART) is None:
        return png
    words = PngInfo()
    for key, value in image.info.items():
        if isinstance(value, str):
            words.add_text(key, value)
    buffer = io.BytesIO()
    small = colours.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(buffer, format="png", optimize=True, pnginfo=words, dpi=(DPI, DPI))
    return buffer.getvalue()


def _json(content: dict[str, Any]) -> bytes:
    """One line an entry: readable differences without one line a number."""
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}"
        for key, value in content.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
