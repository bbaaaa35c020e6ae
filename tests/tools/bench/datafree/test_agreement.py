import pytest

from distill_lib.tools.bench import agreement
from distill_lib.tools.bench.agreement import Disagreement, check
from distill_lib.tools.bench.datafree import reference
from distill_lib.tools.bench.datafree.agreement import compare


def test_every_loss_is_the_librarys_and_says_something(tiny):
    for name, ours, theirs in compare(tiny):
        assert theirs == pytest.approx(ours, rel=1e-4), name
        assert abs(ours) > 1e-4, name


RIGHT = {name: getattr(reference, name) for name in ("divergence", "attention", "cross_entropy", "normalize")}
OTHERS = {
    "ood, kl": ("divergence", lambda taught, learned, t: RIGHT["divergence"](learned, taught, t)),
    "zskt, (at|kl)": ("attention", lambda maps: RIGHT["attention"](maps.abs().sqrt())),
    "cmi, one_hot": ("cross_entropy", lambda scores, labels: RIGHT["cross_entropy"](scores, labels.flip(0))),
    "cmi, contrastive": ("normalize", lambda features, dim: 2 * RIGHT["normalize"](features, dim=dim)),
}


@pytest.mark.parametrize("loss", OTHERS)
def test_another_loss_is_refused(tiny, monkeypatch, loss):
    monkeypatch.setattr(agreement, "COMPARISONS", (agreement._data_free,))
    monkeypatch.setattr(reference, *OTHERS[loss])
    with pytest.raises(Disagreement, match=rf"loss {loss}: [-\d.]+, not [-\d.]+"):
        check(tiny)


def test_a_student_that_takes_no_step_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(agreement, "COMPARISONS", (agreement._data_free,))
    monkeypatch.setattr(reference.ZSKT, "_descend", lambda *args: None)
    with pytest.raises(Disagreement, match="loss zskt, kl"):
        check(tiny)
