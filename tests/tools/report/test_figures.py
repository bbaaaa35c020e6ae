"""Pictures of the report: words for every kind, broken files told apart."""

import base64

from distill_lib.plots import FIGURES
from distill_lib.tools.report.figures import CAPTIONS, names, picture


def test_every_kind_of_figure_has_a_caption():
    assert set(CAPTIONS) == set(FIGURES)
    assert all(text.endswith(".") and "\n" not in text for text in CAPTIONS.values())


def test_a_picture_is_its_bytes(made):
    found = picture(made.figures, "trigger_ctrl")
    data = (made.figures / "trigger_ctrl.png").read_bytes()
    assert base64.b64decode(found.source.partition(",")[2]) == data
    assert (found.width, found.height, found.alt) == (4, 3, "A few red pixels.")
    assert found.caption == CAPTIONS["trigger"]
    assert found.files == ("trigger_ctrl.svg", "trigger_ctrl.json")


def test_an_unknown_kind_has_no_caption(made):
    assert picture(made.figures, "mine").caption == ""


def test_missing_and_broken_ones_are_none(made):
    (made.figures / "trigger.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (made.figures / "injection.json").write_text("[]")
    assert picture(made.figures, "nosuch") is None
    assert picture(made.figures, "trigger") is None
    assert picture(made.figures, "injection") is None
    assert names(made.figures) == ["acc_asr", "headline", "injection", "mine", "trigger", "trigger_ctrl"]
