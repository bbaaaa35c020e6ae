import numpy as np
import torch

from distill_lib.plots.trigger import ROWS, alt_trigger, draw_trigger, numbers_trigger

CLEAN = np.random.default_rng(0).integers(0, 250, (3, 3, 8, 8), dtype=np.uint8)
STAMPED = CLEAN.copy()
STAMPED[:, :, 6:, 6:] = 255


def drawn(figure, row: str) -> list[np.ndarray]:
    axes = figure.axes[list(ROWS).index(row) * 3 :][:3]
    return [np.asarray(ax.images[0].get_array()) for ax in axes]


def test_the_pixels_drawn_are_the_images():
    figure = draw_trigger(
        numbers_trigger(torch.tensor(CLEAN), torch.tensor(STAMPED), CLEAN[..., ::-1], ["a", "b", "c"])
    )
    for row, images in (("clean", CLEAN), ("triggered", STAMPED), ("placebo", CLEAN[..., ::-1])):
        np.testing.assert_array_equal(np.stack(drawn(figure, row)), images.transpose(0, 2, 3, 1))
    difference = np.stack(drawn(figure, "difference"))
    assert (difference[:, :6] == 0).all()
    assert (difference[:, 6:, 6:].max(-1) > 0).all()


def test_a_faint_trigger_is_scaled_up_and_says_by_how_much():
    figure = draw_trigger(numbers_trigger(CLEAN, CLEAN + 5, CLEAN))
    assert {int(v) for v in np.unique(drawn(figure, "difference"))} == {255}
    assert "× 51" in figure.axes[9].get_ylabel()


def test_the_share_of_changed_pixels_is_computed():
    assert "6.2 % of the pixels" in alt_trigger(numbers_trigger(CLEAN, STAMPED, CLEAN))


def test_predictions_stand_under_their_images():
    said = {"triggered": ["x", "y", "z"]}
    figure = draw_trigger(numbers_trigger(CLEAN, STAMPED, CLEAN, predictions=said))
    assert [ax.get_xlabel() for ax in figure.axes[3:6]] == ["→ x", "→ y", "→ z"]


def test_no_images_are_said():
    figure = draw_trigger(numbers_trigger(CLEAN[:0], STAMPED[:0], CLEAN[:0]))
    assert "No images" in figure.texts[0].get_text()
