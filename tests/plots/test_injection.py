import pytest

from distill_lib.plots.injection import alt_injection, draw_injection, numbers_injection


def log(*values):
    return [{"step": 10 * (i + 1), "lr": 0.1, "L0": v, "L1": -0.9, "L2": -0.8} for i, v in enumerate(values)]


LOGS = {"shapes": {0: log(-0.1, -0.9), 1: log(-0.2, -0.95)}, "digits": {0: log(-0.3, -0.7)}}


def test_the_lines_drawn_are_the_log():
    figure = draw_injection(numbers_injection(LOGS))
    shapes, digits = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["shapes", "digits"]
    lines = [line for line in shapes.get_lines() if line.get_label() == "L0"]
    assert [list(line.get_ydata()) for line in lines] == [[-0.1, -0.9], [-0.2, -0.95]]
    assert list(lines[0].get_xdata()) == [10, 20]
    assert len(digits.get_lines()) == 3 + 1  # and the line at -1


def test_attacks_on_data_have_terms_of_their_own_and_old_logs_none():
    rows = [
        {"step": 10, "nt_xent": 4.0, "triggered": -0.2, "untriggered": -0.1},
        {"step": 20, "triggered": -0.9, "untriggered": -0.1},
    ]
    old = [{"step": 10, "nt_xent": 4.0, "triggered": float("nan"), "untriggered": float("nan")}]
    numbers = numbers_injection({"shapes": LOGS["shapes"], "ctrl": {0: rows, 1: old}})
    ctrl = draw_injection(numbers).axes[1]
    drawn = {line.get_label(): list(line.get_ydata()) for line in ctrl.get_lines()[:-1]}
    assert drawn == {"triggered": [-0.2, -0.9], "untriggered": [-0.1, -0.1]}
    assert numbers_injection({"ctrl": {1: old}})["panels"] == []


def test_a_training_that_went_on_from_an_old_log_is_drawn_from_where_it_was_noted():
    nan = float("nan")
    rows = [{"step": 10, "nt_xent": 4.0, "triggered": nan}, {"step": 20, "nt_xent": 3.9, "triggered": -0.5}]
    ((line,),) = [panel["lines"] for panel in numbers_injection({"ctrl": {0: rows}})["panels"]]
    assert (line["term"], line["step"], line["value"]) == ("triggered", [20], [-0.5])


def test_terms_are_told_apart_without_colour():
    lines = draw_injection(numbers_injection(LOGS)).axes[1].get_lines()[:3]
    assert len({(line.get_linestyle(), str(line._dash_pattern)) for line in lines}) == 3


@pytest.mark.parametrize("logs", [{}, {"shapes": {}}, {"shapes": {0: []}}])
def test_no_log_is_said(logs):
    assert "No injection" in draw_injection(numbers_injection(logs)).texts[0].get_text()


def test_the_alt_text_says_where_the_terms_end():
    words = alt_injection(numbers_injection(LOGS))
    assert "shapes: L0 -0.10 to -0.90, L1 -0.90 to -0.90, L2 -0.80 to -0.80 (seed 0); digits: " in words
