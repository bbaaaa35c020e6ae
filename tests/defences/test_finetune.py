"""Fine-tuning is SimCLR on the clean share, from the suspicious weights."""

from copy import deepcopy

from distill_lib.defences.finetune import finetune
from distill_lib.training.simclr import simclr


def test_it_is_simclr_from_the_suspicious_weights(encoder, share, settings, same):
    expected, before = deepcopy(encoder), deepcopy(encoder.state_dict())
    log = finetune(encoder, share, settings, seed=3)
    assert log == simclr(expected, share, settings, 3)
    assert same(encoder.state_dict(), expected.state_dict())
    assert not same(encoder.state_dict(), before)
    assert not encoder.training
