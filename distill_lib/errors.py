"""The one error that a person causes: said in one sentence, never as a traceback."""

from collections.abc import Mapping
from typing import Any


class UsageError(ValueError):
    """A wrong value from outside (option, profile, file).

    The message is one sentence that names the value and what is allowed; the command line prints it
    to stderr and exits with code 2.
    """


def choose(what: str, name: str, allowed: Mapping[str, Any]) -> Any:
    """Look a name up in a registry.

    Args:
        what: What the name is of, for the message ("loss", "attack").
        name: The name asked for.
        allowed: The registry.

    Raises:
        UsageError: If the registry has no such name; the message lists those it has.
    """
    if name not in allowed:
        raise UsageError(f"unknown {what} {name!r}; allowed: {', '.join(map(str, allowed))}")
    return allowed[name]


def whole_number(option: str, text: str, least: int, most: int = 10**12) -> int:
    """Read an option's whole number.

    Args:
        option: Its name, for the message.
        text: What was given.
        least: The least allowed.
        most: The most; more is a slip of the finger.

    Raises:
        UsageError: If it is anything else.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise UsageError(f"{option} {text!r} is impossible; allowed: a whole number, at least {least}")
    return int(text)
