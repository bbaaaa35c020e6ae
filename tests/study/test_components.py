"""How what a cell names is made."""

from distill_lib.study import components
from distill_lib.study.cells import DEFENCE_NAMES, STUDENT_NAMES, TEACHER_NAMES


def test_every_word_of_a_cell_is_made_in_one_way():
    assert tuple(components.TEACHERS) == TEACHER_NAMES
    assert tuple(components.STUDENTS) == STUDENT_NAMES
    assert tuple(components.DEFENCES) == DEFENCE_NAMES
