import pytest

from distill_lib.tools.explore import State
from distill_lib.vision.triggers import Patch


@pytest.mark.parametrize(
    ("place", "fitted"),
    [
        ((21, 21, 10), (21, 21, 10)),
        ((30, 5, 10), (22, 5, 10)),  # column, row, size
        ((-3, 40, 6), (0, 26, 6)),
        ((4, 4, 50), (0, 0, 32)),
        ((31, 31, 0), (31, 31, 1)),
    ],
)
def test_a_square_is_moved_into_the_image(place, fitted):
    column, row, size = place
    state = State("clean", column=column, row=row, size=size).fitted(32)
    assert (state.column, state.row, state.size) == fitted


def test_the_square_is_a_trigger():
    assert State("clean", column=1, row=2, size=3, colour=(4, 5, 6)).patch == Patch(3, 2, 1, (4, 5, 6))
