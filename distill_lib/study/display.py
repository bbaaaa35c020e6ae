"""What `run_all.sh` shows: one live line on a terminal; elsewhere plain lines, one every few seconds."""

import math
import shutil
import sys
import time
from typing import Any, TextIO

from distill_lib.study.progress import seconds_left


def duration(seconds: float) -> str:
    """Seconds as people say them: "12 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_text(states: list[dict[str, Any]]) -> str:
    """Reported states as text: of each the stage, step of steps, epoch of epochs, loss, time left of the stage."""
    return " | ".join(map(_text, states)) or "starting"


def _text(state: dict[str, Any]) -> str:
    parts = [state["stage"] + (f" {state['step']}/{state['steps']}" if state["steps"] else "")]
    if state.get("epoch"):
        parts.append(f"epoch {math.ceil(state['epoch'])}/{math.ceil(state['epoch'] * state['steps'] / state['step'])}")
    if state.get("loss") is not None:
        parts.append(f"loss {state['loss']:.4g}")
    left = seconds_left(state)
    if left is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


class Display:
    """Shows lines, and what is going on between them."""

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.stream = stream or sys.stdout
        self.tty, self.every = self.stream.isatty(), every
        self._shown, self._at = "", time.monotonic()

    def live(self, text: str) -> None:
        """Show what is going on: over the last such line on a terminal, else as a line, rarely."""
        now = time.monotonic()
        if text == self._shown or (not self.tty and now - self._at < self.every):
            return
        self._shown, self._at = text, now
        width = shutil.get_terminal_size().columns - 1
        self._write(f"\r\x1b[2K{text[:width]}" if self.tty else f"{text}\n")

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self._write(f"\r\x1b[2K{text}\n" if self.tty else f"{text}\n")
        self._shown, self._at = "", time.monotonic()

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
