import pytest

from distill_lib.tools.bench import agreement, reference
from distill_lib.tools.bench.agreement import Agreement, Disagreement, check

TERMS = [
    "simclr",
    "simclr, two views",
    "badencoder, L0",
    "badencoder, L1",
    "badencoder, L2",
    "distillation, at",
    "distillation, nt_xent",
    "head",
    "ood, kl",
    "ood fixed, kl",
    "zskt, generator",
    "zskt, kl",
    "zskt, at",
    "cmi, bn",
    "cmi, one_hot",
    "cmi, adversarial",
    "cmi, contrastive",
    "cmi, kl",
]


def test_every_loss_of_the_reference_is_the_librarys(tiny):
    found = check(tiny)
    assert [each.name for each in found] == TERMS
    for each in found:
        assert each.reference == pytest.approx(each.ours, rel=1e-4), each.name
    assert found[4].ours > -1  # after a step, clean images have moved: the term says something


def test_a_reference_with_another_loss_is_refused(tiny, monkeypatch):
    right = reference.contrastive
    monkeypatch.setattr(reference, "contrastive", lambda one, two, t: right(one, two, 2 * t))
    with pytest.raises(Disagreement, match=r"loss simclr: [\d.]+, not [\d.]+"):
        check(tiny)


@pytest.mark.parametrize(("theirs", "holds"), [(2.0001, True), (2.001, False)])
def test_only_rounding_may_differ(theirs, holds):
    assert Agreement("x", 2.0, theirs).holds is holds
    assert agreement.TOLERANCE <= 1e-4
