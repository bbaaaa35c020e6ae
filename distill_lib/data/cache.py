"""Arrays that took seconds to make, kept as npz files."""

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def cached(path: Path | None, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in the file, or made and written there.

    A broken file is made anew. The file is written beside its place and renamed into it, so a killed or a
    second process never leaves half a file; a folder that cannot be written costs only the time of the next call.

    Args:
        path: The npz file; None keeps nothing.
        make: Makes the arrays.
    """
    if path is None:
        return make()
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except _BROKEN:
        arrays = make()
    with contextlib.suppress(OSError):  # a full or read-only disk: whoever writes results there says so
        _write(path, arrays)
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
