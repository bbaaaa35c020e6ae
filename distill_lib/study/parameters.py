"""What a notebook's parameters cell declares, and whether given values fit it.

papermill checks none of this: a misspelled name, a missing `parameters` tag, the string "false" for a
switch all run the defaults or worse without a word, and what the cell derives keeps the default's value.
"""

import ast
import json
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, choose

TYPES = {
    "bool": bool,
    "str": str,
    "int": int,
    "float": (int, float),
    "list": list,
    "dict": dict,
    "None": type(None),
}


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as JSON.

    Raises:
        UsageError: If there is no notebook there.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return {**notebook, "cells": [{**c, "source": "".join(c["source"])} for c in notebook["cells"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{str(path)!r} is not a notebook that can be read ({type(error).__name__})") from error


def declared(path: Path) -> dict[str, ast.expr]:
    """The parameters that a notebook declares: the annotation of each by name.

    Raises:
        UsageError: If there is not exactly one cell tagged `parameters`, or it holds anything but
            annotated literals (`name: type = literal`).
    """
    cells = [c for c in read_notebook(path)["cells"] if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise UsageError(f"{path.name} has {len(cells)} cells tagged 'parameters'; allowed: exactly one")
    try:
        return dict(_declaration(statement) for statement in ast.parse(cells[0]["source"]).body)
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"the parameters cell of {path.name} holds {getattr(error, 'text', None) or str(error)!r}; "
            f"allowed: annotated literals (name: type = value) of the types {', '.join(TYPES)}"
        ) from error


def _declaration(statement: ast.stmt) -> tuple[str, ast.expr]:
    """(name, annotation); a ValueError with the statement's text where it is not an annotated literal."""
    try:
        name, annotation = statement.target.id, statement.annotation
        if fits(ast.literal_eval(statement.value), annotation):
            return name, annotation
    except (AttributeError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(ast.unparse(statement))


def fits(value: Any, annotation: ast.expr) -> bool:
    """Whether a JSON value is of the annotated type; an int fits `float`, a bool does not."""
    match annotation:
        case ast.BinOp(left, ast.BitOr(), right):
            return fits(value, left) or fits(value, right)
        case ast.Subscript(ast.Name("list"), item):
            return isinstance(value, list) and all(fits(v, item) for v in value)
        case ast.Subscript(ast.Name("dict")):
            return isinstance(value, dict)
        case _:
            kind = ast.unparse(annotation)
            return isinstance(value, TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def check(path: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as JSON values (a tuple becomes a list: papermill would make a string of it).

    Raises:
        UsageError: If the notebook declares no such parameter, or a value is not of its declared type.
    """
    allowed, checked = declared(path), {}
    for name, value in parameters.items():
        annotation = choose(f"parameter of {path.name}", name, allowed)
        try:
            checked[name] = json.loads(json.dumps(value, allow_nan=False))
            fitting = fits(checked[name], annotation)
        except (TypeError, ValueError):
            fitting = False
        if not fitting:
            raise UsageError(
                f"parameter {name!r} of {path.name} is {value!r} ({type(value).__name__}); "
                f"allowed: {ast.unparse(annotation)}"
            )
    return checked
