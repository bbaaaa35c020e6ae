import json

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.parameters import check, declared

CELL = """# What this notebook can be told.
profile: str = "quick"  # quick, laptop, gpu, paper
seeds: list[int] = [0, 1]  # seeds
downstream: list[str] = []
temperature: float = 0.5
steps: int = 3
fast: bool = False
overrides: dict = {"a.b": 1}
device: str | None = None
mixed: list[int | str] = [1, "a"]
"""


@pytest.fixture
def notebook(repository):
    return repository.write("03_student", parameters=CELL)


def test_declared_names(notebook):
    names = "profile seeds downstream temperature steps fast overrides device mixed"
    assert list(declared(notebook)) == names.split()


def test_values_that_fit_come_back_as_json(notebook):
    given = {
        "seeds": (3, 4),
        "temperature": 1,
        "fast": True,
        "device": "cpu",
        "overrides": {"x": (1,)},
        "mixed": ["a", 2],
    }
    assert check(notebook, given) == json.loads(json.dumps(given))
    assert check(notebook, {"device": None, "downstream": []}) == {"device": None, "downstream": []}


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("fast", "false", "bool"),
        ("fast", 0, "bool"),
        ("temperature", "1e-3", "float"),
        ("temperature", True, "float"),
        ("temperature", float("nan"), "float"),
        ("steps", 1.0, "int"),
        ("steps", False, "int"),
        ("seeds", 3, r"list\[int\]"),
        ("seeds", "(0, 1)", r"list\[int\]"),
        ("seeds", [0, "1"], r"list\[int\]"),
        ("profile", None, "str"),
        ("device", 1, r"str \| None"),
        ("overrides", [], "dict"),
        ("profile", object(), "str"),
        ("mixed", [1.5], r"list\[int \| str\]"),
    ],
)
def test_a_value_of_another_type_is_named_with_the_type_allowed(notebook, name, value, kind):
    with pytest.raises(UsageError, match=rf"parameter '{name}' of 03_student.ipynb is .*; allowed: {kind}$"):
        check(notebook, {name: value})


def test_a_misspelled_parameter_is_refused(notebook):
    with pytest.raises(UsageError, match=r"unknown parameter of 03_student.ipynb 'sedes'; allowed: profile, seeds, "):
        check(notebook, {"sedes": [1]})


@pytest.mark.parametrize("tags", [(), ("parameter",)])
def test_a_notebook_without_the_tag_is_refused(repository, tags):
    with pytest.raises(UsageError, match=r"a.ipynb has 0 cells tagged 'parameters'; allowed: exactly one"):
        check(repository.write("a", tags=tags), {})


def test_two_parameters_cells_are_refused(repository):
    path = repository.write("a")
    notebook = json.loads(path.read_text())
    path.write_text(json.dumps({**notebook, "cells": notebook["cells"] * 2}))
    with pytest.raises(UsageError, match="has 2 cells"):
        check(path, {})


@pytest.mark.parametrize(
    "line",
    [
        "double: int = 2 * steps",  # derived: it would keep the default's value
        "both: list = [steps]",
        "steps = 3",  # no type
        "steps: int",  # no value
        "pair: list = (1, 2)",  # no JSON value: a tuple
        "steps: int = 3.5",
        "lr: float = 'x'",
        "path: Path = 'x'",
        "items: set = {1}",
        "import os",
        "a.b: int = 1",
        "%matplotlib inline",
    ],
)
def test_a_parameters_cell_holds_annotated_literals_only(repository, line):
    path = repository.write("a", parameters=f"steps: int = 1\n{line}")
    with pytest.raises(UsageError, match=r"the parameters cell of a.ipynb holds .*; allowed: annotated literals"):
        check(path, {})


def test_the_offending_line_is_named(repository):
    path = repository.write("a", parameters="steps: int = 1\ndouble: int = 2 * steps")
    with pytest.raises(UsageError, match=r"double: int = 2 \* steps"):
        declared(path)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"cells": [{}]}'])
def test_what_is_no_notebook_is_named(tmp_path, text):
    path = tmp_path / "a.ipynb"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"a.ipynb' is not a notebook"):
        check(path, {})


def test_sources_may_be_lists_of_lines(repository):
    path = repository.write("a")
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["source"] = notebook["cells"][0]["source"].splitlines(keepends=True)
    path.write_text(json.dumps(notebook))
    assert list(declared(path)) == ["profile", "seeds", "flag"]
