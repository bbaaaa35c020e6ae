"""Why a file from a stranger is not read."""


class Refusal(Exception):
    """A reason in words, without the file's name: whoever knows the name makes a sentence of both."""


def shown(value: object) -> str:
    """A value out of an untrusted file, for a message: no control characters, not longer than a line bears.

    Only plain values are written out: the text of nested ones can be endless.
    """
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
