"""Which notebooks were executed, what they are about, and when their pages are written."""

import os

import pytest

from distill_lib.tools.report import notebooks


def test_title_and_question_come_from_the_first_cell(made, tmp_path):
    about = notebooks.about(made.root / "notebooks" / "01_attack.ipynb")
    assert (about.title, about.question) == ("1 · The attack", "Can somebody change it, unseen?")
    assert notebooks.about(tmp_path / "09_none.ipynb") == notebooks.Source("09_none", "")
    (tmp_path / "broken.ipynb").write_text("{")
    assert notebooks.about(tmp_path / "broken.ipynb").title == "broken"


def test_the_manifests_notebook_is_meant_else_the_newest(made):
    one, two = made.notebook("one"), made.notebook("two")
    first, second = (made.execute("05_analysis", key, content) for key, content in (("old", one), ("new", two)))
    os.utime(first.with_name("job.json"), (1, 1))
    source = made.job.source
    assert notebooks.executed(made.runs, source, {})["05_analysis"] == second
    assert notebooks.executed(made.runs, source, {"05_analysis": "old"})["05_analysis"] == first
    assert notebooks.executed(made.runs, source, {"05_analysis": "gone"})["05_analysis"] == second


def test_other_profiles_and_broken_records_are_passed_over(made):
    made.execute("06_robustness", "cccc", made.notebook("x"), profile="quick")
    broken = made.execute("07_data_free", "dddd", made.notebook("x")).with_name("job.json")
    for content in ("{", "[]", '{"notebook": "07_data_free"}'):
        broken.write_text(content)
        assert set(notebooks.executed(made.runs, made.job.source, {})) == {"01_attack"}
    assert notebooks.executed(made.root / "nowhere", made.job.source, {}) == {}


def test_a_page_is_written_once_for_the_same_bytes(made):
    source, page = made.execute("05_analysis", "eeee", made.notebook("# One")), made.figures / "notebooks" / "05.html"
    assert notebooks.write_page(source, page, made.figures, "a title")
    assert not notebooks.write_page(source, page, made.figures, "a title")
    assert notebooks.write_page(source, page, made.figures, "another")
    source.write_text(source.read_text().replace("One", "Two"))
    assert notebooks.write_page(source, page, made.figures, "another")
    assert "<h1>Two</h1>" in page.read_text()


def test_a_file_that_is_no_notebook_is_a_value_error(made):
    source = made.root / "x.ipynb"
    for content in ("", "[]", '{"cells": 3}', "\x00"):
        source.write_text(content)
        with pytest.raises(ValueError, match=r"."):
            notebooks.write_page(source, made.figures / "x.html", made.figures, "x")
