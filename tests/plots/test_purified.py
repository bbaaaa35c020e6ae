import numpy as np
import pytest

from distill_lib.plots import draw, numbers_attention, numbers_sensitivity
from distill_lib.plots.pictures import read_picture
from distill_lib.plots.purified import alt_sensitivity


def rows(*strengths):
    return {
        f"square {n}": {"before": {"clean": 0.2, "triggered": each}, "after": {"clean": 0.3, "triggered": 0.35}}
        for n, each in enumerate(strengths)
    }


def test_the_strongest_pull_comes_first():
    numbers = numbers_sensitivity(rows(0.5, 0.9, 0.1), 64)
    assert [row["trigger"] for row in numbers["rows"]] == ["square 1", "square 0", "square 2"]
    assert numbers["clean"] == {"before": 0.2, "after": 0.3}
    assert "clean images 0.20 to 0.30; strongest triggers: square 1 0.90 to 0.35" in alt_sensitivity(numbers)


def test_every_trigger_has_its_two_marks():
    figure = draw("sensitivity", numbers_sensitivity(rows(0.5, 0.9, 0.1), 64))
    marks = {line.get_label(): line.get_xdata() for line in figure.axes[0].get_lines()}
    assert list(marks["triggered, before"]) == [0.9, 0.5, 0.1]
    assert list(marks["triggered, after"]) == [0.35] * 3
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["square 1", "square 0", "square 2"]


def test_nothing_tried_is_said():
    numbers = numbers_sensitivity({}, 0)
    assert " yet." in draw("sensitivity", numbers).texts[0].get_text()
    assert "none tried yet" in alt_sensitivity(numbers)


@pytest.mark.parametrize("size", [32, 224])
def test_attention_brightens_where_the_encoder_looks(size):
    images = np.full((2, 3, size, size), 100, np.uint8)
    looks = np.zeros((2, 4, 4), np.float32)
    looks[:, 3, 3] = 1.0
    numbers = numbers_attention(images, {when: [looks] * 4 for when in ("before", "after")}, "a white square")
    assert [len(row["pictures"]) for row in numbers["rows"]] == [9, 9]
    assert len(numbers["columns"]) == 9
    picture = read_picture(numbers["rows"][0]["pictures"][1])
    assert max(picture.shape) == min(size, 96)
    assert picture[-1, -1, 0] > 150 > 50 > picture[0, 0, 0]
    assert "a white square" in numbers["words"]


def test_flat_attention_is_dark():
    images = np.zeros((1, 3, 8, 8), np.uint8)
    flat = [np.ones((1, 2, 2), np.float32)]
    numbers = numbers_attention(images, {"before": flat, "after": flat}, "none")
    assert not read_picture(numbers["rows"][0]["pictures"][1]).any()
