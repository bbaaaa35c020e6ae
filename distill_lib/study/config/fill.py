"""Dataclasses from plain tables, strictly: unknown keys, wrong types and missing values are named."""

import dataclasses
import functools
import types
import typing
from typing import Any

from distill_lib.errors import UsageError, choose


def fill(kind: type, values: Any, where: str = "") -> Any:
    """An instance of the dataclass `kind` from a dict; nested dataclasses from nested dicts.

    Raises:
        UsageError: Names the key, the value and what is allowed.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; allowed: a table of settings")
    known = hints(kind)
    for key in values:
        choose("setting", f"{where}.{key}".lstrip("."), {f"{where}.{name}".lstrip("."): None for name in known})
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise UsageError(f"setting {f'{where}.{missing[0]}'.lstrip('.')!r} is missing; it has no default")
    return kind(**{key: value_of(known[key], value, f"{where}.{key}".lstrip(".")) for key, value in values.items()})


def value_of(kind: Any, value: Any, where: str) -> Any:
    """A setting of the type `kind` from a plain value; `where` is its dotted key.

    Raises:
        UsageError: Names the key, the value and what is allowed.
    """
    if dataclasses.is_dataclass(kind):
        return fill(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(value_of(inner[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: value_of(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        return _one_of(inner, value, where)
    if origin is None and _fits(kind, value):
        return float(value) if kind is float else value
    name = kind.__name__ if origin is None else str(kind)
    raise UsageError(f"setting {where!r} is {value!r} ({type(value).__name__}); allowed: {name}")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value of one of several types: of tables and tuples there is one at most, the others are plain."""
    rich = [each for each in kinds if dataclasses.is_dataclass(each) or typing.get_origin(each)]
    if rich and isinstance(value, dict | list | tuple):
        return value_of(rich[0], value, where)
    if any(_fits(each, value) for each in kinds if each not in rich):
        return value
    names = (getattr(each, "__name__", str(each)) for each in kinds)
    raise UsageError(f"setting {where!r} is {value!r} ({type(value).__name__}); allowed: {' or '.join(names)}")


def _fits(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def with_value(values: dict, path: list[str], value: Any) -> dict:
    """A table with one value changed, under a dotted key in pieces; the table given stays as it is.

    Raises:
        UsageError: If the key leads through what is no table.
    """
    if not isinstance(values, dict):
        raise UsageError(f"setting {'.'.join(path)!r} would lie in {values!r}; allowed: in a table of settings")
    inner = with_value(values.get(path[0], {}), path[1:], value) if len(path) > 1 else value
    return {**values, path[0]: inner}


def as_table(value: Any) -> Any:
    """Tables as a profile's file has them."""
    if isinstance(value, dict):
        return {name: as_table(each) for name, each in value.items()}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def at(values: Any, path: list[str]) -> Any:
    """What lies under a dotted key; None where there is nothing."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else getattr(values, name, None)
    return values
