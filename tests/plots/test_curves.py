import numpy as np
import pandas as pd
import pytest

from distill_lib.plots import numbers_harm, numbers_robustness
from distill_lib.plots.curves import alt_curves, draw_curves


def sweep_rows(seeds=(0, 1), sizes=("6", "14"), sweep="trigger size") -> pd.DataFrame:
    """ACC 50 + seed everywhere; ASR the size + seed for `attacked`, 0 + seed for `recipe`."""
    about = {"sweep": sweep, "axis": "pixels", "pretrain": "cifar10", "attack": "badencoder", "downstream": "gtsrb"}
    rows = [
        {**about, "x": x, "line": line, "seed": seed, "acc": 50.0 + seed, "asr": float(x) * (line != "recipe") + seed}
        for x in sizes
        for line in ("attacked", "recipe")
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_the_numbers_are_the_means_of_each_point():
    (panel,) = numbers_robustness(sweep_rows())["panels"]
    assert (panel["sweep"], panel["axis"], panel["x"]) == ("trigger size", "pixels", ["6", "14"])
    attacked, recipe = panel["lines"]
    assert [point["asr"]["mean"] for point in attacked["points"].values()] == [6.5, 14.5]
    assert [point["asr"]["mean"] for point in recipe["points"].values()] == [0.5, 0.5]
    assert attacked["points"]["14"]["asr"]["values"] == [14.0, 15.0]
    assert attacked["points"]["6"]["acc"] == {
        "seeds": [0, 1], "values": [50.0, 51.0], "mean": 50.5, "low": None, "high": None, "n": 2,
    }  # fmt: skip


def test_numbers_are_in_order_words_as_they_came():
    assert numbers_robustness(sweep_rows(sizes=("100", "30", "1e3")))["panels"][0]["x"] == ["30", "100", "1e3"]
    rows = sweep_rows().replace({"x": {"6": "simclr", "14": "byol"}})
    assert numbers_robustness(rows)["panels"][0]["x"] == ["simclr", "byol"]


def test_exploration_seeds_are_left_out_and_sweeps_of_one_name_share_a_panel():
    other = sweep_rows(seeds=(100,))
    rows = pd.concat([sweep_rows(), other, sweep_rows(sweep="share")], ignore_index=True)
    panels = numbers_harm(rows)["panels"]
    assert [panel["sweep"] for panel in panels] == ["trigger size", "share"]
    assert panels[0]["lines"][0]["points"]["6"]["asr"]["seeds"] == [0, 1]
    assert numbers_robustness(other)["panels"] == []


def test_the_marks_drawn_are_the_numbers():
    axes = draw_curves(numbers_robustness(sweep_rows())).axes
    lines = [line for line in axes[1].get_lines() if line.get_marker() != "_"]
    assert [line.get_ydata().tolist() for line in map(as_array, lines)] == [[6.5, 14.5], [0.5, 0.5]]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2  # told apart without colour
    assert not axes[1].containers  # n = 2
    assert [t.get_text() for t in axes[1].get_xticklabels()] == ["6", "14"]


def as_array(line):
    line.set_ydata(np.asarray(line.get_ydata()))
    return line


def test_from_three_seeds_on_there_are_intervals():
    axes = draw_curves(numbers_robustness(sweep_rows(seeds=range(3)))).axes
    assert len(axes[0].containers) == 4


def test_a_value_that_one_line_lacks_is_left_out_of_it():
    rows = sweep_rows()
    rows = rows[~((rows["line"] == "recipe") & (rows["x"] == "6"))]
    numbers = numbers_harm(rows)
    assert list(numbers["panels"][0]["lines"][1]["points"]) == ["14"]
    assert "recipe 50.5/0.5" in alt_curves(numbers)
    assert draw_curves(numbers).axes


def test_every_point_of_a_panel_is_a_mean_over_the_same_seeds():
    """The point that is the profile's own has the main table's seeds."""
    rows = sweep_rows(seeds=range(6))
    rows = rows[(rows["x"] == "14") | (rows["seed"] < 2)]
    other = sweep_rows(seeds=range(3), sweep="share")
    panels = numbers_robustness(pd.concat([rows, other]))["panels"]
    seeds = [{tuple(p["asr"]["seeds"]) for line in panel["lines"] for p in line["points"].values()} for panel in panels]
    assert seeds == [{(0, 1)}, {(0, 1, 2)}]
    apart = rows[(rows["x"] == "14") ^ (rows["seed"] < 2)]
    assert numbers_robustness(apart)["panels"] == []  # no seed has all points


def test_a_setting_with_a_single_value_is_no_curve():
    rows = pd.concat([sweep_rows(), sweep_rows(sizes=("6",), sweep="share")])
    assert [panel["sweep"] for panel in numbers_robustness(rows)["panels"]] == ["trigger size"]


def test_small_rates_are_told_apart():
    """The ASR's scale is the square root's: from 0 to 25 % is half of the way to 100 %."""
    ax = draw_curves(numbers_robustness(sweep_rows())).axes[1]
    low, middle, high = (ax.transData.transform((0, asr))[1] for asr in (0, 25, 100))
    assert (middle - low) / (high - low) == pytest.approx(0.5)


@pytest.mark.parametrize("numbers", [numbers_harm, numbers_robustness])
def test_an_empty_table_is_said(numbers):
    assert " yet." in draw_curves(numbers(sweep_rows().iloc[:0])).texts[0].get_text()
