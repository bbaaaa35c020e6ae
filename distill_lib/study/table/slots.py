"""`python -m distill_lib.study.table.slots GPUS COMMAND ...`: run a command on GPUs of this host that no other has.

An engine for one host counts GPUs, but tells no job which one is its own: here the first free ones are taken, by a lock
on a file each, which ends with the command. Where Slurm gives out devices, nothing is done.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from distill_lib.errors import UsageError, whole_number

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.5  # seconds between two looks for a free one


def devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there are none."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU"))]


def take(count: int, among: Sequence[str], folder: Path) -> list[str]:
    """Wait for so many free GPUs and take them until this process, and what it becomes, has ended.

    Raises:
        UsageError: If there are not so many.
    """
    if count > len(among):
        raise UsageError(f"{count} GPUs were asked for, but this host has {len(among)}; allowed: at most {len(among)}")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        held: dict[str, int] = {}
        for device in among:
            slot = os.open(folder / f"gpu-{device.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held[device] = slot
            if device not in held:
                os.close(slot)
            if len(held) == count:
                for each in held.values():
                    os.set_inheritable(each, True)
                return list(held)
        for slot in held.values():  # all or none: two that wait for each other would wait for ever
            os.close(slot)
        time.sleep(POLL)


def main(argv: list[str]) -> int:
    """Become the command; 2, after one sentence, where that cannot be."""
    try:
        count = whole_number("GPUS", argv[0] if argv else "", 0)
        if len(argv) < 2:
            raise UsageError("no command was given; allowed: GPUS COMMAND ...")
        if count and "SLURM_JOB_ID" not in os.environ:
            folder = Path(tempfile.gettempdir()) / f"distill-gpus-{os.getuid()}"
            os.environ[VISIBLE] = ",".join(take(count, devices(), folder))
        os.execvp(argv[1], argv[1:])
    except UsageError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{argv[1]!r} cannot be run: {os.strerror(error.errno)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
