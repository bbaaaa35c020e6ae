"""Comparable inputs: dtype, detaching, and errors that name the shapes."""

import pytest
import torch

from distill_lib.distillation.losses.representation import Representation, map_pairs, output_pair


def test_teacher_is_detached_and_the_student_is_not(small):
    student, teacher = (Representation(r.output.requires_grad_(), r.maps) for r in small)
    learned, taught = output_pair(student, teacher)
    assert learned.requires_grad
    assert not taught.requires_grad


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_low_precision_is_cast_up_and_double_stays(small, given, expected):
    student, teacher = (Representation(r.output, {"stage1": r.maps["stage1"].to(given)}) for r in small)
    ((learned, taught),) = map_pairs(student, teacher, ["stage1"])
    assert learned.dtype == taught.dtype == expected


def test_a_shape_mismatch_names_stage_and_both_shapes():
    student = Representation(torch.zeros(2, 4), {"stage2": torch.zeros(2, 3, 5, 5)})
    teacher = Representation(torch.zeros(2, 8), {"stage2": torch.zeros(2, 6, 5, 5)})
    with pytest.raises(ValueError, match=r"stage2: student \(2, 3, 5, 5\) and teacher \(2, 6, 5, 5\)"):
        map_pairs(student, teacher, ["stage2"])
    with pytest.raises(ValueError, match=r"output: student \(2, 4\) and teacher \(2, 8\)"):
        output_pair(student, teacher)


def test_the_number_of_dimensions_is_part_of_the_shape():
    flat = Representation(torch.zeros(2, 4, 1, 1), {"stage1": torch.zeros(2, 4)})
    with pytest.raises(ValueError, match="4 dimensions"):
        map_pairs(flat, flat, ["stage1"])
    with pytest.raises(ValueError, match="2 dimensions"):
        output_pair(flat, flat)


def test_a_missing_stage_is_named_with_those_there(small):
    with pytest.raises(ValueError, match="no map of 'stage9'; there are: stage1, stage2"):
        map_pairs(*small, ["stage9"])
