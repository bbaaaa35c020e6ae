"""Published numbers, each with its source: `published("headline.asr_before").value`."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from distill_lib.errors import choose

PUBLISHED = Path(__file__).with_name("published.toml")
_ABOUT = ("source", "tag", "note")


@dataclass(frozen=True)
class Published:
    """A number that someone else reported.

    Attributes:
        value: Percent, or percentage points for a change.
        source: Who.
        tag: `paper` (printed by the authors), `code` (with the official repository), `peer` (measured again
            by others) or `claimed` (passed on by others).
        note: The set-up it holds for.
    """

    value: float
    source: str
    tag: str
    note: str


@cache
def load_published() -> dict[str, Published]:
    """All published numbers by dotted name (`badencoder.cifar10.gtsrb.asr_all`), in the file's order."""
    return dict(_walk(tomllib.loads(PUBLISHED.read_text(encoding="utf-8")), "", {}))


def published(name: str) -> Published:
    """One published number.

    Raises:
        UsageError: If there is none of that name; the message lists all.
    """
    return choose("published number", name, load_published())


def _walk(group: dict[str, Any], prefix: str, above: dict[str, str]):
    about = {**above, **{key: group[key] for key in _ABOUT if key in group}}
    for key, value in group.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{key}.", about)
        elif key not in _ABOUT:
            yield prefix + key, Published(float(value), **about)
