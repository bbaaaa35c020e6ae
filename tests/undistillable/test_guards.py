"""Guards: what stops, and what passes untouched."""

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.undistillable.guards import DefenceError, check_labelled, explained


def test_only_a_diverged_training_is_explained():
    with (
        pytest.raises(DefenceError, match=r"the training of a teacher diverged \(at step 3\); train less"),
        explained("a teacher", "train less"),
    ):
        raise FloatingPointError("at step 3")
    with pytest.raises(KeyError), explained("a teacher", "train less"):
        raise KeyError("other")
    with explained("a teacher", "train less"):
        pass


@pytest.mark.parametrize("labels", [None, torch.zeros(2).long(), torch.tensor([0, 1, -1])])
def test_labels_that_do_not_fit_are_named(labels):
    with pytest.raises(UsageError, match=r"3 images and .* cannot be learnt"):
        check_labelled(torch.zeros(3, 3, 4, 4), labels)


def test_no_images_are_named():
    with pytest.raises(UsageError, match="0 images and no labels"):
        check_labelled(torch.zeros(0, 3, 4, 4), torch.zeros(0).long())
