"""The clean share alone: fresh weights that learn it, from a seed alone."""

from dataclasses import replace

from distill_lib.defences.clean_share import clean_share
from distill_lib.training.loop import Schedule
from distill_lib.vision.encoders import EncoderConfig, build_encoder


def test_fresh_weights_learn_the_share(share, settings, same):
    config = replace(settings, schedule=Schedule(30, 16, lr=3e-3))
    encoder, again, other = (build_encoder(EncoderConfig(10, 4, 4), 9) for _ in range(3))
    log = clean_share(encoder, share, config, seed=3)
    assert sum(row["nt_xent"] for row in log[-5:]) < sum(row["nt_xent"] for row in log[:5])
    assert clean_share(again, share, config, seed=3) == log
    assert same(encoder.state_dict(), again.state_dict())
    assert clean_share(other, share, config, seed=4) != log
    assert not encoder.training
