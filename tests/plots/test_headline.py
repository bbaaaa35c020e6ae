import pytest

from distill_lib.evaluation.cells import RECIPE, by_seed, tidy
from distill_lib.plots.headline import alt_headline, draw_headline, numbers_headline


def test_the_numbers_are_the_tables_and_differences_are_paired(few):
    (row,) = numbers_headline(few)["rows"]
    table = tidy(few)
    recipe, attacked, clean = (by_seed(table, c) for c in (RECIPE, {"stage": "attacked"}, {"stage": "clean"}))
    assert row["before"]["values"] == attacked["asr"].tolist()
    assert row["after"]["values"] == recipe["asr"].tolist()
    assert row["acc_change"]["attacked"]["values"] == pytest.approx((recipe["acc"] - attacked["acc"]).tolist())
    assert row["acc_change"]["clean"]["mean"] == pytest.approx((recipe["acc"] - clean["acc"]).mean())


def test_seeds_whose_target_was_found_are_one_row(few):
    (row,) = numbers_headline(few.assign(target=few["seed"] + 3))["rows"]
    assert row["before"]["n"] == row["after"]["n"] == row["acc_change"]["clean"]["n"] == 2


def test_a_seed_without_its_partner_is_not_paired(few):
    lonely = few[~((few["stage"] == "attacked") & (few["seed"] == 1))]
    (row,) = numbers_headline(lonely)["rows"]
    assert row["before"]["seeds"] == row["after"]["seeds"] == [0]
    assert row["acc_change"]["attacked"]["seeds"] == row["acc_change"]["clean"]["seeds"] == [0]


def test_the_published_row_is_apart_and_named_another_set_up(many):
    numbers = numbers_headline(many)
    figure = draw_headline(numbers)
    left, right = figure.axes
    *ours, published = [t.get_text() for t in left.get_yticklabels()]
    assert published == "published:\nother set-up"
    assert ours == ["BadEncoder\nCIFAR-10 → GTSRB", "CTRL\nCIFAR-10 → SVHN"]
    diamonds = [(line.get_xdata()[0], line.get_ydata()[0]) for line in left.get_lines() if line.get_marker() == "D"]
    assert diamonds == [(80.87, 0), (27.51, 0)]
    assert [line.get_xdata()[0] for line in right.get_lines() if line.get_marker() == "D"] == [-6.35]
    assert "Not comparable" in figure.texts[-1].get_text().replace("\n", " ")


def test_the_marks_drawn_are_the_numbers(few):
    numbers = numbers_headline(few)
    (row,) = numbers["rows"]
    left, right = draw_headline(numbers).axes
    assert [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "o"] == [
        row["before"]["mean"],
        row["after"]["mean"],
    ]
    marks = {line.get_marker(): line.get_xdata()[0] for line in right.get_lines() if line.get_marker() in "<s"}
    assert marks == {"<": row["acc_change"]["attacked"]["mean"], "s": row["acc_change"]["clean"]["mean"]}


def test_without_the_recipe_nothing_stands_beside_the_paper(few):
    numbers = numbers_headline(few[few["loss"] != "at"])
    assert numbers["rows"] == []
    assert "not been measured" in draw_headline(numbers).texts[0].get_text()
    assert "no rows yet" in alt_headline(numbers)
