import numpy as np

from distill_lib.plots import numbers_explore, numbers_places
from distill_lib.plots.explore import alt_explore, alt_places, draw_explore, draw_places
from distill_lib.plots.pictures import read_picture

PLACES = {"rows": [1, 11, 21], "columns": [1, 11, 21], "n": 60}
GRID = [[5.0, 0.0, 0.0], [0.0, 0.0, 10.0], [0.0, 20.0, 97.0]]


def view(prediction, kept):
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    maps = {f"stage{n}": np.full((2, 2), 0.25) for n in range(1, 5)}
    place = {"points": [[0, 0], [1, 2], [3, 1]], "position": (2.0, 1.0), "origin": (0.0, 0.0)}
    shares = dict.fromkeys(maps, 12.5)
    return {"image": image, "prediction": prediction, "kept": kept, **place, "attention": maps, "shares": shares,
            "neighbours": [(image, "cat")] * 3}  # fmt: skip


def test_the_views_are_kept():
    seen = view("cat", 0.5)
    numbers = numbers_explore({"attacked": seen}, (5, 5, 2), "dog", "cat", [0, 1, 0])
    kept = numbers["views"]["attacked"]
    assert np.array_equal(read_picture(kept["image"]), seen["image"].transpose(1, 2, 0))
    assert (kept["kept"], kept["shares"]["stage2"], kept["near"][2][1]) == (0.5, 12.5, "cat")
    words = " ".join(text.get_text() for ax in draw_explore(numbers).axes for text in (ax.xaxis.label, ax.title))
    assert "→ cat" in words
    assert "12 %" in words
    assert "cosine 0.50" in words
    assert "attacked: cat, cosine 0.50" in alt_explore(numbers)


def test_the_attackers_place_is_told_from_all_others():
    numbers = numbers_places({**PLACES, "shares": {"attacked": GRID}}, (21, 21, 10), 32, "cat")
    assert "attacked: at the cross 97 %\nelsewhere 4 %, at most 20 %" in alt_places(numbers)
    (mark,) = draw_places(numbers).axes[0].collections
    assert mark.get_offsets().tolist() == [[21, 21]]


def test_a_place_off_the_grid_is_not_made_up():
    numbers = numbers_places({**PLACES, "shares": {"attacked": GRID}}, (20, 20, 10), 32, "cat")
    assert "cross 9" not in alt_places(numbers)
    assert "elsewhere 15 %, at most 97 %" in alt_places(numbers)


def test_nothing_to_look_at_is_said():
    for draw, numbers in (
        (draw_explore, numbers_explore({}, (5, 5, 2), "dog", "cat", [])),
        (draw_places, numbers_places({**PLACES, "shares": {}}, (21, 21, 10), 32, "cat")),
    ):
        assert " yet." in draw(numbers).texts[0].get_text()
