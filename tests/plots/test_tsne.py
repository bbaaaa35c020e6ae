import numpy as np
import pytest

from distill_lib.plots.tsne import (
    MOST_CLASSES,
    choose_rows,
    draw_tsne,
    embed,
    numbers_tsne,
    share_near_target,
)

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), 20)
CENTRES = np.eye(4, 6)
CLEAN = CENTRES[LABELS] + RNG.normal(0, 0.05, (80, 6))
AT_TARGET = CENTRES[[2] * 10] + RNG.normal(0, 0.05, (10, 6))


def test_the_sample_is_fixed_and_of_the_right_classes():
    labels = np.random.default_rng(1).integers(0, 20, 3000)
    rows = choose_rows(labels, target=19, classes=5, per_class=7, triggered=11)
    again = choose_rows(labels, target=19, classes=5, per_class=7, triggered=11)
    shown, counts = np.unique(labels[rows["clean"]], return_counts=True)
    assert set(counts) == {7}
    assert len(shown) == 5
    assert 19 in shown
    common = np.bincount(labels[labels != 19]).argsort()[-4:]
    assert set(shown) - {19} == set(common)
    assert len(rows["triggered"]) == 11
    assert set(labels[rows["triggered"]]) <= set(shown) - {19}
    assert all((rows[k] == again[k]).all() for k in rows)
    assert len(np.unique(labels[choose_rows(labels, 19, classes=99)["clean"]])) == MOST_CLASSES


def test_a_planted_backdoor_lies_among_the_target_and_a_clean_encoder_does_not():
    assert share_near_target(CLEAN, LABELS, AT_TARGET, 2) == 100
    assert share_near_target(CLEAN, LABELS, CLEAN[:20], 2) == 0
    both = np.concatenate([AT_TARGET, CLEAN[:10]])
    assert share_near_target(CLEAN * 7, LABELS, both, 2) == 50  # lengths do not matter


def test_embedding_keeps_shapes_and_clusters():
    found = embed(CLEAN, AT_TARGET, CENTRES[2:3])
    assert {k: v.shape for k, v in found.items()} == {
        "clean": (80, 2),
        "triggered": (10, 2),
        "reference": (1, 2),
    }
    means = np.stack([found["clean"][c == LABELS].mean(0) for c in range(4)])
    nearest = np.linalg.norm(found["triggered"][:, None] - means, axis=2).argmin(1)
    assert (nearest == 2).all()


@pytest.fixture(scope="module")
def numbers():
    panel = {"clean": CLEAN, "labels": LABELS, "triggered": AT_TARGET, "reference": CENTRES[2:3]}
    return numbers_tsne({"clean": panel, "attacked": panel, "distilled": panel}, 2, dict(enumerate("wxyz")))


def test_the_points_drawn_are_the_numbers(numbers):
    figure = draw_tsne(numbers)
    assert [ax.get_title() for ax in figure.axes] == [
        "before the attack",
        "after the attack",
        "after distillation",
    ]
    ax, panel = figure.axes[1], numbers["panels"]["attacked"]
    groups = [np.asarray(c.get_offsets()) for c in ax.collections]
    assert [len(g) for g in groups] == [20, 20, 20, 20, 10, 1]  # three classes, target, triggered, reference
    np.testing.assert_array_equal(groups[3], np.array(panel["clean"])[LABELS == 2])
    np.testing.assert_array_equal(groups[4], panel["triggered"])
    assert "100 % of triggered images" in ax.get_xlabel()


def test_classes_are_told_apart_without_colour(numbers):
    handles = draw_tsne(numbers).legends[0].legend_handles
    assert len({h.get_marker() for h in handles}) == len(handles) == 6
    assert draw_tsne(numbers).legends[0].get_texts()[0].get_text() == "y (target)"
