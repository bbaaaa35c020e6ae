"""Executed notebooks: which of a profile's are in the store, what each is about, a page for each beside the report."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from distill_lib.plots import files

HERE = Path(__file__).parent
STAMP = '<meta name="made-from" content="{}">'
MAKERS = ("convert.py", "notebook.html.j2", "style.css")  # what a page depends on besides the notebook


@dataclass(frozen=True)
class Source:
    """What a notebook is about, from its first cell."""

    title: str
    question: str


def about(notebook: Path) -> Source:
    """Title and question of a notebook; its file name and nothing where it has none, or is not there."""
    try:
        text = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    except (OSError, ValueError, LookupError, TypeError):
        text = ""
    title = re.search(r"^# +(.+)", text, re.MULTILINE)
    question = re.search(r"\*\*Question\.\*\*\s*(.+?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    words = re.sub(r"[*`]", "", " ".join(question[1].split())) if question else ""
    return Source(title[1].strip() if title else notebook.stem, words)


def executed(runs: Path, source: str, keys: dict[str, str]) -> dict[str, Path]:
    """The finished notebooks of a profile in the store: stem -> file.

    Args:
        runs: The store.
        source: The profile as the jobs were given it: its name, or its file.
        keys: Job -> key that the manifest has: that one is meant where there are several, else the newest.
    """
    found: dict[str, tuple[tuple[bool, float], Path]] = {}
    for record in (runs / "notebooks").glob("*/job.json"):
        try:
            job = json.loads(record.read_text(encoding="utf-8"))
            stem, mine = str(job["notebook"]), job["parameters"]["profile"] == source
            rank = keys.get(stem) == record.parent.name, record.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            continue
        notebook = record.with_name(f"{stem}.ipynb")
        if mine and notebook.is_file() and rank >= found.get(stem, (rank, notebook))[0]:
            found[stem] = rank, notebook
    return {stem: notebook for stem, (_, notebook) in found.items()}


def write_page(notebook: Path, page: Path, figures: Path, title: str) -> bool:
    """Write an executed notebook as a page; says whether it was written: not where it was made from the same bytes.

    Args:
        notebook: The executed notebook.
        page: The file to write; its folder is made.
        figures: Folder of the profile's figures, whose words describe the notebook's pictures.
        title: Of the page.

    Raises:
        ValueError: If the file is no notebook.
    """
    data = [notebook.read_bytes(), title.encode(), *((HERE / name).read_bytes() for name in MAKERS)]
    stamp = STAMP.format(hashlib.sha256(b"\0".join(data)).hexdigest())
    if page.is_file() and stamp in page.read_text(encoding="utf-8")[:1000]:
        return False
    from distill_lib.tools.report.convert import convert  # nbconvert takes seconds to import

    page.parent.mkdir(parents=True, exist_ok=True)
    return files.write_if_changed(page, convert(data[0].decode(), figures, title, stamp).encode())
