"""What the handles say: which encoder, which image, and where the square is."""

from dataclasses import dataclass, replace

from distill_lib.vision.triggers import Patch


@dataclass(frozen=True)
class State:
    """Where all handles stand.

    Attributes:
        encoder: Its name.
        image: Row of the bank.
        column: Left edge of the square, in pixels: x.
        row: Top edge: y.
        size: Side of the square.
        colour: Red, green, blue in 0..255.
        stamped: Whether the square is on the image.
    """

    encoder: str
    image: int = 0
    column: int = 21
    row: int = 21
    size: int = 10
    colour: tuple[int, int, int] = (255, 255, 255)
    stamped: bool = True

    def fitted(self, side: int) -> "State":
        """The same with a square that lies inside an image of `side` pixels: cut to fit, then moved inside."""
        size = min(max(self.size, 1), side)
        row, column = (min(max(place, 0), side - size) for place in (self.row, self.column))
        return replace(self, size=size, row=row, column=column)

    @property
    def patch(self) -> Patch:
        """The square as a trigger."""
        return Patch(self.size, self.row, self.column, self.colour)
