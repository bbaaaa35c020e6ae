"""The clean share alone is SimCLR from fresh weights."""

from distill_lib.defences.clean_share import clean_share
from distill_lib.training.simclr import simclr
from distill_lib.vision.encoders import EncoderConfig, build_encoder


def test_it_is_simclr_from_fresh_weights(share, settings, same):
    encoder, expected = (build_encoder(EncoderConfig(10, 4, 4), 9) for _ in range(2))
    log = clean_share(encoder, share, settings, seed=3)
    assert log == simclr(expected, share, settings, 3)
    assert same(encoder.state_dict(), expected.state_dict())
    assert not encoder.training
