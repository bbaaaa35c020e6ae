import numpy as np
import pandas as pd
import pytest

from distill_lib.plots import numbers_abd, numbers_asr_over_training, numbers_bridge
from distill_lib.plots.data_free import alt_abd, draw_abd, draw_asr_over_training, draw_bridge


def rows(seeds, defences=("none", "abd")) -> pd.DataFrame:
    about = {"attack": "badnet_grid", "method": "ood", "stage": "student"}
    return pd.DataFrame(
        {**about, "defence": defence, "seed": seed, "acc": 60.0 + seed, "asr": 90.0 if defence == "none" else 5.0}
        for defence in defences
        for seed in seeds
    )


def test_variants_are_means_over_the_seeds_that_all_of_them_have():
    table = rows((0, 1, 2))
    table = table[(table["defence"] == "none") | (table["seed"] < 2)]
    (panel,) = numbers_abd(table, {"badnet_grid": {"ood": {"abd": [78.2, 14.5]}}})["panels"]
    assert [(p["defence"], p["acc"]["seeds"], p["asr"]["mean"]) for p in panel["points"]] == [
        ("none", [0, 1], 90.0), ("abd", [0, 1], 5.0),
    ]  # fmt: skip
    assert "none 60.5/90.0, abd 60.5/5.0" in alt_abd({"panels": [panel]})
    squares = [line for ax in draw_abd({"panels": [panel]}).axes for line in ax.get_lines() if line.get_marker() == "s"]
    assert [line.get_xdata()[0] for line in squares] == [78.2, 14.5]


def test_exploration_seeds_and_undefended_methods_have_no_panel():
    assert numbers_abd(rows((100, 101)), {})["panels"] == []
    assert numbers_abd(rows((0,), ("none",)), {})["panels"] == []


def test_curves_are_means_at_each_share_of_the_training():
    curves = pd.concat([rows((0, 1)).assign(step=step, acc=lambda r: r["acc"] + r["step"]) for step in (10, 20)])
    (panel,) = numbers_asr_over_training(curves)["panels"]
    first = panel["lines"][0]
    assert (first["share"], first["acc"], first["seeds"]) == ([50, 100], [70.5, 80.5], [0, 1])
    assert draw_asr_over_training({"panels": [panel]}).axes


def test_two_defended_methods_are_told_apart_and_long_curves_stay_lines():
    tables = [rows((0,)).assign(step=step) for step in range(1, 51)]
    both = pd.concat([*tables, *(each.assign(method="zskt") for each in tables)])
    acc = draw_asr_over_training(numbers_asr_over_training(both)).axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in acc.get_lines()}
    assert len(looks) == len(acc.get_lines()) == 4
    assert {line.get_markevery() for line in acc.get_lines()} == {4}


def test_intervals_of_rates_end_where_rates_do():
    table = rows((0, 1, 2))
    table.loc[table["defence"] == "abd", "asr"] = [0.0, 1.0, 20.0]
    right = draw_abd(numbers_abd(table, {})).axes[1]
    ends = [x for each in right.collections for path in each.get_paths() for x in path.vertices[:, 0]]
    assert min(ends) == 0


def test_the_bridge_keeps_its_order_and_its_source():
    places = [rows((0,), ("none",)).assign(place=i, data=name) for i, name in enumerate(("clean data", "one picture"))]
    teachers = pd.DataFrame([{"attack": "badnet_grid", "seed": s, "acc": 90.0 + s, "asr": 99.0} for s in (0, 1)])
    encoder = rows((0,), ("none",)).assign(place=-1, data="attacked encoder", attack="badencoder")
    numbers = numbers_bridge(pd.concat(places), teachers, encoder)
    supervised, encoders = numbers["panels"]
    assert [point["data"] for point in supervised["points"]] == ["clean data", "one picture"]
    assert supervised["source"]["acc"]["values"] == [90.0]  # the bridge's seed alone
    assert encoders["points"] == []
    assert len(draw_bridge(numbers).axes) == 1


@pytest.mark.parametrize("draw", [draw_abd, draw_asr_over_training, draw_bridge])
def test_nothing_measured_is_said(draw):
    assert " yet." in draw({"panels": []}).texts[0].get_text()
    assert np.isfinite(draw({"panels": []}).get_size_inches()).all()
