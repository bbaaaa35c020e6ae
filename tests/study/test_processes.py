"""A process does not outlive the one that it works for."""

import os
import subprocess
import sys
import time

CHILD = "import os, time; from distill_lib.study.processes import end_with; end_with(os.getppid()); time.sleep(60)"
PARENT = f"""import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {CHILD!r}]).pid, flush=True)
time.sleep(60)"""


def gone(process, within):
    """Whether a process ends within so many seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_it_ends_when_its_parent_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        time.sleep(1.0)
        assert not gone(child, 0.5)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert gone(child, 10)
