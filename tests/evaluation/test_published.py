import pytest

from distill_lib.errors import UsageError
from distill_lib.evaluation.published import load_published, published


def test_the_headline_and_the_tables_are_there_with_their_sources():
    assert published("headline.asr_before").value == 80.87
    assert published("headline.asr_after").value == 27.51
    assert published("headline.acc_change").value == -6.35
    gtsrb = published("badencoder.cifar10.gtsrb.clean_acc")
    assert gtsrb.value == 81.84
    assert "Jia" in gtsrb.source
    assert "ResNet-18" in gtsrb.note
    assert "CLIP" in published("badencoder.clip.svhn.asr_all").note  # the inner note wins
    assert len([name for name in load_published() if name.startswith("badencoder.cifar10")]) == 13


def test_every_number_has_a_source_a_tag_and_is_a_percentage():
    for name, number in load_published().items():
        assert number.source, name
        assert number.tag in ("paper", "code", "peer", "claimed"), name
        assert -100 <= number.value <= 100, name


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"headline\.asr_before"):
        published("headline.nothing")
