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
