import numpy as np
import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.evaluation.rates import rates, trigger_cos

# Ten images, classes 0, 1, 2; the target is 1, so seven images count for the ASR.
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
CLEAN = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 1])
TRIGGERED = torch.tensor([1, 1, 1, 0, 1, 1, 0, 1, 2, 0])
PLACEBO = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])


def test_every_rate_of_a_hand_made_case():
    found = rates(CLEAN, TRIGGERED, PLACEBO, LABELS, target=1)
    assert found == {
        "acc": 70.0,
        "asr": pytest.approx(100 * 4 / 7),  # non-target images only
        "asr_all": 60.0,  # all ten
        "triggered_acc": pytest.approx(100 * 2 / 7),
        "placebo_asr": pytest.approx(100 * 1 / 7),
        "target_rate": pytest.approx(100 * 2 / 7),
        "n_test": 10,
    }


def test_a_planted_perfect_backdoor_scores_100_and_keeps_its_accuracy():
    found = rates(LABELS, torch.full_like(LABELS, 2), LABELS, LABELS, target=2)
    assert (found["acc"], found["asr"], found["asr_all"]) == (100, 100, 100)
    assert (found["triggered_acc"], found["placebo_asr"], found["target_rate"]) == (0, 0, 0)


def test_a_clean_model_scores_the_floor_of_its_own_mistakes():
    found = rates(CLEAN, CLEAN, CLEAN, LABELS, target=1)
    assert found["asr"] == found["placebo_asr"] == found["target_rate"] == pytest.approx(100 * 2 / 7)
    perfect = rates(LABELS, LABELS, LABELS, LABELS, target=1)
    assert perfect["asr"] == 0
    assert perfect["asr_all"] == 30.0  # the target's own images, which no attack moved
    assert perfect["triggered_acc"] == 100


def test_a_lost_target_class_has_no_asr_though_the_trigger_still_works():
    found = rates(LABELS, torch.zeros_like(LABELS), LABELS, LABELS, target=1)
    assert found["asr"] == 0
    assert found["triggered_acc"] == pytest.approx(100 * 4 / 7)


def test_arrays_and_lists_are_read_as_tensors_are():
    assert rates(CLEAN.numpy(), TRIGGERED.tolist(), PLACEBO, LABELS.numpy(), 1) == rates(
        CLEAN, TRIGGERED, PLACEBO, LABELS, 1
    )


@pytest.mark.parametrize(
    ("labels", "target", "named"),
    [
        ([], 0, "empty"),
        ([1, 1, 1], 1, "one class only"),
        ([0, 1, 2], 3, "target class 3 is out of range; allowed: 0 to 2"),
        ([0, 1, 2], -1, "target class -1"),
        ([0, 2, 2], 1, "target class 1 is absent"),
        ([0, -1, 1], 1, "label -1"),
    ],
)
def test_impossible_sets_are_named(labels, target, named):
    with pytest.raises(UsageError, match=named):
        rates(labels, labels, labels, np.array(labels, int), target)


def test_predictions_of_another_length_are_refused():
    with pytest.raises(UsageError, match="shape"):
        rates(CLEAN, TRIGGERED[:5], PLACEBO, LABELS, 1)


def test_trigger_cos_is_the_mean_over_all_pairs():
    generator = torch.Generator().manual_seed(0)
    triggered = torch.randn(7, 5, generator=generator)
    references = torch.randn(3, 5, generator=generator)
    slow = torch.nn.functional.cosine_similarity(triggered[:, None], references[None], dim=2).mean()
    assert trigger_cos(triggered, references) == pytest.approx(slow.item(), abs=1e-6)


def test_trigger_cos_of_known_angles():
    reference = torch.tensor([[2.0, 0.0]])
    assert trigger_cos(torch.tensor([[5.0, 0.0], [0.0, 1.0]]), reference) == pytest.approx(0.5)
    assert trigger_cos(-reference, reference) == pytest.approx(-1)
    with pytest.raises(UsageError, match="reference inputs"):
        trigger_cos(reference, reference[:0])
