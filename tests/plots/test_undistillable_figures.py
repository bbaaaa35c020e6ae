import numpy as np
import pandas as pd
import pytest

from distill_lib.plots import (
    numbers_ablation,
    numbers_answers,
    numbers_peaks,
    numbers_spaces,
    numbers_stolen,
    numbers_temperatures,
    numbers_trade,
)
from distill_lib.plots.answers import alt_answers, draw_answers, draw_peaks, draw_spaces, own_neighbours, told
from distill_lib.plots.theft import alt_stolen, draw_ablation, draw_stolen, draw_temperatures, draw_trade

TEACHERS = {"ast": 88.0, "normal": 90.0, "nasty": 89.0}


def rows(seeds=(0, 1)) -> pd.DataFrame:
    cells = [("teacher", t, "", "", acc) for t, acc in TEACHERS.items()]
    cells += [("student", t, "cnn", "kd", acc - 10) for t, acc in TEACHERS.items()]
    cells += [("student", "", "cnn", "alone", 79.0)]
    names = ("stage", "teacher", "student", "thief", "acc")
    found = [{"dataset": "builtin", **dict(zip(names, cell, strict=True)), "seed": s} for cell in cells for s in seeds]
    return pd.DataFrame(found).assign(agreement=80.0)


def test_one_images_logits_say_what_is_withheld():
    logits = {"normal": np.arange(20.0), "stingy": np.where(np.arange(20) > 17, np.arange(20.0), -np.inf)}
    numbers = numbers_answers(logits, [f"c{i}" for i in range(20)], 0)
    assert numbers["classes"] == ["c0", *(f"c{i}" for i in range(9, 20))]
    assert numbers["label"] == 0
    assert numbers["panels"][1]["logits"] == [None] * 10 + [18.0, 19.0]
    assert "stingy: c19 19.0, c18 18.0." in alt_answers(numbers)
    assert len(draw_answers(numbers).axes) == 2


def test_students_stand_beside_those_that_asked_nobody():
    (panel,) = numbers_stolen(rows())["panels"]
    assert list(panel["thieves"][0]["teachers"]) == ["normal", "nasty", "ast"]
    assert panel["thieves"][0]["teachers"]["ast"]["mean"] == 78
    assert panel["thieves"][0]["controls"]["alone"]["mean"] == 79
    assert "KD from normal 80.0, nasty 79.0, AST 78.0, beside alone 79.0" in alt_stolen({"panels": [panel]})


def test_a_thief_stands_beside_the_control_that_is_like_it():
    others = [("student", "normal", "cnn", thief, 60.0) for thief in ("kd_part", "kd_other", "skeptical")]
    others += [("student", "", "cnn", thief, 50.0) for thief in ("alone_part", "skeptical_alone")]
    names = ("stage", "teacher", "student", "thief", "acc")
    found = [{"dataset": "builtin", **dict(zip(names, cell, strict=True)), "seed": 0} for cell in others]
    numbers = numbers_stolen(pd.concat([rows(), pd.DataFrame(found).assign(agreement=80.0)]))
    held = {thief["thief"]: list(thief["controls"]) for thief in numbers["panels"][0]["thieves"]}
    assert held == {
        "kd": ["alone"], "kd_part": ["alone_part"], "kd_other": [],
        "skeptical": ["skeptical_alone"],
    }  # fmt: skip
    (ax,) = draw_stolen(numbers).axes
    drawn = [(line.get_xdata()[0], sum(line.get_ydata()) / 2) for line in ax.lines if np.ptp(line.get_ydata()) == 1]
    assert sorted(drawn) == [(50.0, 0.0), (50.0, 2.0), (79.0, 3.0)]  # kd, kd_part, kd_other, skeptical from above
    assert "from normal 60.0, beside alone, few images 50.0; " in alt_stolen(numbers)


def test_a_control_has_the_seeds_of_its_row():
    """A thief on one seed is held against that seed's control, not against the mean over all."""
    both = rows()
    both.loc[(both["thief"] == "alone") & (both["seed"] == 1), "acc"] = 89.0
    first = both[(both["thief"] == "kd") & (both["seed"] == 0)].assign(thief="hard_label")
    (panel,) = numbers_stolen(pd.concat([both, first]))["panels"]
    assert [thief["controls"]["alone"]["values"] for thief in panel["thieves"]] == [[79.0, 89.0], [79.0]]


def test_exploration_seeds_are_in_figures_of_their_own():
    assert numbers_stolen(rows((100,)))["panels"] == numbers_trade(rows((100,)))["panels"] == []
    assert numbers_stolen(rows((100,)), exploring=True)["panels"]
    assert numbers_trade(rows((0, 100)), exploring=True)["panels"][0]["points"]["ast"]["student"]["seeds"] == [100]


def test_a_trade_is_against_the_normal_teacher():
    (panel,) = numbers_trade(rows())["panels"]
    assert list(panel["points"]) == ["nasty", "ast"]
    assert (panel["points"]["ast"]["teacher"]["mean"], panel["points"]["ast"]["student"]["mean"]) == (2, 2)
    assert panel["stake"]["values"] == [1.0, 1.0]  # KD from the normal teacher 80, alone 79
    (ax,) = draw_trade({"panels": [panel]}).axes
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [1.0]


def test_the_sweep_has_a_panel_an_alpha_and_the_control_of_its_seeds():
    kd = rows()[lambda r: r["thief"] == "kd"]
    sweep = pd.concat([kd.assign(alpha=a, temperature=t) for a in (0.9, 0.5) for t in (20.0, 1.0)])
    numbers = numbers_temperatures(sweep[sweep["seed"] == 0], rows()[lambda r: r["thief"] == "alone"])
    assert [panel["alpha"] for panel in numbers["panels"]] == [0.5, 0.9]
    assert numbers["panels"][0]["lines"]["ast"]["temperature"] == [1.0, 20.0]
    assert numbers["alone"]["seeds"] == [0]


def test_the_ablation_keeps_its_order():
    taught = rows()[lambda r: r["teacher"] == "ast"][lambda r: r["stage"] == "teacher"]
    taught = taught.assign(student_acc=70.0, warm_entropy_share=0.5, peaks=2.0)
    found = numbers_ablation(pd.concat([taught.assign(variant=v) for v in ("normal", "ast", "kl")]))["variants"]
    assert [each["variant"] for each in found] == ["normal", "ast", "kl"]
    assert found[0]["warm_entropy_share"]["mean"] == 50
    assert numbers_peaks(taught)["points"][0]["peaks"]["mean"] == 2


def test_neighbours_are_counted_in_the_space_itself():
    labels = np.repeat([0, 1], 12)
    assert own_neighbours(np.eye(2)[labels] + 0.01 * np.arange(24)[:, None], labels) == 100
    assert told([[3.0, -np.inf, 1.0]]).tolist() == [[3.0, 0.0, 1.0]]
    numbers = numbers_spaces({"ast": np.eye(2)[labels]}, {"ast": np.eye(2)[labels]}, labels, ["a", "b"])
    assert numbers["panels"][0]["features"]["near"] == 100
    assert np.shape(numbers["panels"][0]["logits"]["points"]) == (24, 2)


@pytest.mark.parametrize(
    ("draw", "numbers"),
    [
        (draw_answers, {"panels": [], "classes": [], "label": 0}),
        (draw_peaks, {"points": []}),
        (draw_spaces, {"panels": [], "labels": [], "classes": {}}),
        (draw_stolen, {"panels": []}),
        (draw_temperatures, {"panels": []}),
        (draw_ablation, {"variants": []}),
        (draw_trade, {"panels": []}),
    ],
)
def test_nothing_measured_is_said(draw, numbers):
    assert " yet." in draw(numbers).texts[0].get_text()
