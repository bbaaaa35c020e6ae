"""Triggers to try an encoder with: the study's own kinds, in the places, sizes and colours that attacks use."""

from dataclasses import replace

from distill_lib.attacks.ctrl import FrequencyTrigger
from distill_lib.attacks.label_triggers import SIZE as LABEL_TRIGGER_SIDE
from distill_lib.attacks.label_triggers import TRIGGERS as LABEL_TRIGGERS
from distill_lib.vision.triggers import Patch, ScatteredPatch, Trigger, corner_patch

COLOURS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
}
SMALL, LARGE = 4 / 32, 10 / 32  # of the image's side; BadEncoder's is the large one
MAGNITUDES = (100.0, 400.0)  # CTRL's published one, and the one that small encoders take up
WINDOW = 32  # CTRL's


def bank(size: int) -> dict[str, Trigger]:
    """Triggers by name, for images of `size` pixels.

    Squares in the lower right corner, where BadEncoder puts its own; white ones elsewhere; CTRL's frequencies, the
    published positions and half of them; at 32 pixels the ten triggers of the supervised attacks too.
    """
    found: dict[str, Trigger] = {}
    for words, share in (("small", SMALL), ("large", LARGE)):
        side = max(1, round(share * size))
        corner = corner_patch(side, size)
        found |= {f"{words} {name} square": replace(corner, colour=colour) for name, colour in COLOURS.items()}
        found[f"{words} white square, upper left"] = Patch(side, 1, 1)
        found[f"{words} white square, middle"] = Patch(side, (size - side) // 2, (size - side) // 2)
        found[f"{words} white square, anywhere"] = ScatteredPatch(side)
    window = WINDOW if size % WINDOW == 0 else size
    for magnitude in MAGNITUDES:
        for words, part in (("high", 1), ("middle", 2)):
            positions = tuple((at // part - 1, at // part - 1) for at in (window // 2, window))
            # The pattern's pixels have the same strength in windows of any size.
            trigger = FrequencyTrigger(magnitude * window / WINDOW, positions, window)
            found[f"CTRL, {words} frequencies, {magnitude:g}"] = trigger
    if size == LABEL_TRIGGER_SIDE:
        found |= {f"supervised attack {name}": trigger for name, trigger in LABEL_TRIGGERS.items()}
    return found
