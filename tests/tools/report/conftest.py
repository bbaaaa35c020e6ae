"""A made-up repository with a little of everything that a report holds."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from distill_lib.study import main_job
from distill_lib.tools.report.page import build

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")
COLUMNS = (
    "pretrain,attack,downstream,target,stage,defence,teacher,student,loss,seed,n_test,acc,asr,asr_all,triggered_acc,"
    "placebo_asr,target_rate,trigger_cos,key"
)
WHERE, RATES = "builtin,badencoder,shapes,0", "12.0,21.25,3.5,1.5,0.5,k"
ROWS = (
    f"{WHERE},clean,none,,,,0,200,61.25,2.5,{RATES}",
    f"{WHERE},clean,none,,,,1,200,63.25,3.5,{RATES}",
    f"{WHERE},attacked,none,,,,0,200,60.0,98.75,{RATES}",
    f"{WHERE},attacked,none,,,,1,200,58.5,97.25,{RATES}",
    f"{WHERE},defended,finetune,,,,0,200,59.125,40.0,{RATES}",
    f"{WHERE},defended,distillation,finetuned,warmup,at,0,200,50.0,12.375,{RATES}",
    f"{WHERE},defended,distillation,finetuned,warmup,at,100,200,9.0,99.0,{RATES}",  # an exploration
)
MANIFEST = {
    "configuration": {"name": "tiny", "attack": "badencoder"},
    "data": {"builtin/train": {"source": "builtin", "count": 10_000, "classes": 16, "digest": "e767aafd409d4dabdabd"}},
    "git": {"revision": "0123abcd", "changed": True},
    "hardware": {"cpu": "a processor", "cores": 2, "gpus": [], "system": "Linux"},
    "jobs": {"01_attack": {"key": "aaaa", "wall_s": 75.0, "peak_rss_mb": 612.4}},
    "precision": "bf16",
    "versions": {"torch": "2.10.0"},
}
QUESTION = "# 1 · The attack\n\n**Question.** Can somebody *change* it,\nunseen?\n\n**In**: images."


def png(width=4, height=3):
    """The bytes of a picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, format="png")
    return buffer.getvalue()


def notebook(*cells):
    """A notebook's content: markdown from text, code from (source, outputs)."""
    made = []
    for number, cell in enumerate(cells):
        about = {"id": f"c{number}", "metadata": {}}
        if isinstance(cell, str):
            made.append({"cell_type": "markdown", "source": cell, **about})
        else:
            source, outputs = cell
            code = {"execution_count": 1, "outputs": outputs}
            made.append({"cell_type": "code", "source": source, **code, **about})
    return {"cells": made, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


class Page(HTMLParser):
    """What is in a page: `tags` as (name, attributes), `text`."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.words = [], []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        """Keep it."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        """Keep it."""
        self.words.append(data)

    def all(self, tag):
        """The attributes of each tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        """All words, single spaces between them."""
        return " ".join(" ".join(self.words).split())


class Made:
    """The repository's folders, and its profile."""

    rows, columns, notebook, page = ROWS, COLUMNS, staticmethod(notebook), Page

    def __init__(self, root):
        self.root, self.runs = root, root / "runs"
        self.figures, self.results = root / "figures" / "tiny", root / "results" / "tiny"
        self.job = main_job.load(TINY)

    def build(self):
        """The report, read."""
        return Page(build(self.root, self.job, self.runs))

    def draw(self, name, kind=None, alt="A few red pixels."):
        """The three files of a figure."""
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.figures / f"{name}.png").write_bytes(png())
        (self.figures / f"{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
        content = {"figure": kind or name, "alt": alt, "numbers": {}}
        (self.figures / f"{name}.json").write_text(json.dumps(content))

    def table(self, *rows):
        """Write distillation.csv."""
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / "distillation.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")

    def execute(self, stem, key, content, profile=None):
        """Put an executed notebook into the store."""
        folder = self.runs / "notebooks" / key
        folder.mkdir(parents=True)
        (folder / f"{stem}.ipynb").write_text(json.dumps(content))
        record = {"name": stem, "notebook": stem, "parameters": {"profile": profile or self.job.source}, "key": key}
        (folder / "job.json").write_text(json.dumps(record))
        return folder / f"{stem}.ipynb"


@pytest.fixture
def bare(tmp_path):
    """A repository without any result."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_attack.ipynb").write_text(json.dumps(notebook(QUESTION)))
    return Made(tmp_path)


@pytest.fixture
def made(bare):
    """One with a table, some figures, a manifest and an executed notebook."""
    bare.table(*ROWS)
    (bare.results / "manifest.json").write_text(json.dumps(MANIFEST))
    for name in ("trigger", "injection", "headline", "acc_asr"):
        bare.draw(name, alt=f"{name}: 12.5 % & more.")
    bare.draw("trigger_ctrl", "trigger")
    bare.draw("mine", "nobody's")
    shown = [{"output_type": "stream", "name": "stdout", "text": "ASR 98.75"}]
    bare.execute("01_attack", "aaaa", notebook(QUESTION, ("study.measure()", shown)))
    return bare
