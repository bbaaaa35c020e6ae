"""Move the trigger by hand, and see what an encoder makes of it."""

from distill_lib.tools.explore.explorer import Bank, Explorer, Shown
from distill_lib.tools.explore.measured import Settings, shares, weights
from distill_lib.tools.explore.panel import Panel
from distill_lib.tools.explore.sources import open_explorer
from distill_lib.tools.explore.state import State
from distill_lib.tools.explore.subject import Subject

__all__ = ["Bank", "Explorer", "Panel", "Settings", "Shown", "State", "Subject", "open_explorer", "shares", "weights"]
