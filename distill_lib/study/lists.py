"""What each notebook measures: one list, from which the notebook is written and the job table cut."""

from typing import Any

from distill_lib.study.cells import Cell
from distill_lib.study.components import STUDENTS, TEACHERS
from distill_lib.study.session import Study

RELEASED = tuple(f"{name}:released" for name in ("kd", "sp", "cc", "afd"))
MIMIC = "mimic"  # beside the profile's losses: the student's features against the teacher's, as they are
Wanted = list[tuple[Cell, dict[str, Any] | None]]  # cells, each with other settings of the profile by dotted key


def attack_cells(study: Study) -> tuple[list[Cell], list[Cell]]:
    """The encoders before and after each attack: on every attacked set and seed."""
    attacked = study.everywhere()
    return [study.clean(cell.downstream, cell.seed, cell.attack) for cell in attacked], attacked


def teacher_cells(study: Study) -> tuple[list[Cell], list[Cell]]:
    """The recipe with every teacher, where components are compared; plain defences and the recipe, everywhere."""
    places, everywhere = study.compared(), study.everywhere()
    cells = [each for name in TEACHERS for each in study.recipe(places, teacher=name)]
    plain = study.defence(everywhere, "finetune") + study.defence(everywhere, "clean_share") + study.recipe(everywhere)
    return cells, plain


def student_cells(study: Study) -> list[Cell]:
    """The recipe with every student, where components are compared."""
    places = study.compared()
    return [each for name in STUDENTS for each in study.recipe(places, student=name)]


def loss_cells(study: Study) -> tuple[list[Cell], list[Cell]]:
    """The recipe with every loss, where components are compared; with the released forms, on the first such encoder."""
    places = study.compared()
    cells = [each for name in (*study.profile.losses, MIMIC) for each in study.recipe(places, loss=name)]
    return cells, [each for name in RELEASED for each in study.recipe(places[:1], loss=name)]


def headline_cells(study: Study) -> list[Cell]:
    """Before, after, the two plain defences and the recipe: on every attacked set and seed."""
    clean, attacked = attack_cells(study)
    plain = study.defence(attacked, "clean_share") + study.defence(attacked, "finetune")
    return clean + attacked + plain + study.recipe(attacked)
