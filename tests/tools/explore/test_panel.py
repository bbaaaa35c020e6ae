"""The widgets, without a browser: a handle that moves is a value that is set."""

import pytest

from distill_lib.tools.explore import Panel
from distill_lib.tools.explore.panel import prediction_words

MOVES = {"column": 4, "row": 7, "size": 5, "colour": "#ff0080", "image": 11, "stamped": False, "encoder": "clean"}


@pytest.fixture
def panel(explorer):
    return Panel(explorer)


def pictures(panel):
    return {name: picture.value for name, picture in panel.pictures.items()}


def test_it_starts_with_the_attackers_square(panel, explorer):
    assert panel.state == explorer.start()
    assert all(bytes(value[:4]) == b"\x89PNG" for value in pictures(panel).values())
    assert "nearest of 24 test images" in panel.words["neighbours"].value


@pytest.mark.parametrize("handle", MOVES)
def test_a_move_draws_anew_with_one_image_encoded(panel, encoded, handle):
    before = pictures(panel)
    del encoded[:]
    panel.handles[handle].value = MOVES[handle]
    assert encoded == [1]
    after = pictures(panel)
    changed = {name for name in after if after[name] != before[name]}
    assert changed >= ({"map", "attention"} if handle == "encoder" else {"image", "map", "attention"})
    value = (255, 0, 128) if handle == "colour" else MOVES[handle]
    assert getattr(panel.shown.state, handle) == value


def test_a_square_that_grows_is_moved_inside_at_one_encoding(panel, encoded):
    del encoded[:]
    panel.handles["size"].value = 16
    assert (panel.handles["column"].max, panel.handles["row"].max) == (16, 16)
    assert (panel.state.column, panel.state.row) == (16, 16)
    assert panel.shown.state == panel.state
    assert encoded == [1]
    panel.handles["size"].value = 2
    assert panel.handles["column"].max == 30
    assert len(encoded) == 2


def test_the_first_look_at_an_encoder_says_what_it_waits_for(panel, explorer):
    said = []
    panel.words["status"].observe(lambda change: said.append(change["new"]), "value")
    panel.handles["encoder"].value = "finetune"
    assert "a few seconds, once" in said[0]
    assert said[-1] == ""
    panel.handles["encoder"].value = "clean"
    panel.handles["encoder"].value = "finetune"
    assert len(said) == 4


def test_words_name_the_numbers(panel, explorer):
    shown = panel.shown
    words = prediction_words(explorer, shown)
    assert f"{100 * float(shown.probabilities.max()):.0f} %" in words
    assert f"{shown.kept:.2f}" in words
    assert all(f"{share:.0f} %" in panel.words["attention"].value for share in shown.shares.values())
    assert "an even look would have 10 %" in panel.words["attention"].value


def test_class_names_are_text(panel):
    panel.handles["image"].value = 1
    assert "b &lt;i&gt;" in panel.words["prediction"].value
    assert "b <i>" not in panel.words["prediction"].value
