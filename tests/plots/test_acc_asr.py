import numpy as np
import pandas as pd
import pytest

from distill_lib.plots.acc_asr import alt_acc_asr, draw_acc_asr, numbers_acc_asr


def test_every_defended_encoder_is_there_once(few):
    (panel,) = numbers_acc_asr(few)["panels"]
    assert [(c["family"], c["word"]) for c in panel["cells"]] == [
        ("recipe", "recipe"),
        ("plain", "finetune"),
        ("plain", "clean_share"),
        ("plain", "made_up"),
        ("teacher", "poisoned"),
        ("teacher", "clean"),
        ("student", "copy"),
        ("loss", "kd"),
        ("loss", "cosine"),
        ("other", "poisoned, random, cosine"),
    ]
    kd = few[(few["loss"] == "kd")]
    assert panel["cells"][7]["asr"]["mean"] == pytest.approx(kd["asr"].mean())


def test_seeds_whose_target_was_found_are_one_panel(few):
    (panel,) = numbers_acc_asr(few.assign(target=few["seed"] + 3))["panels"]
    assert {cell["asr"]["n"] for cell in panel["cells"]} == {2}


def test_the_points_drawn_are_the_means(few):
    numbers = numbers_acc_asr(few)
    figure = draw_acc_asr(numbers)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for line in lines}
    (panel,) = numbers["panels"]
    expected = [*panel["cells"], *panel["anchors"].values()]
    assert drawn == {(c["asr"]["mean"], c["acc"]["mean"]) for c in expected}


def test_marks_are_told_apart_without_colour(many):
    figure = draw_acc_asr(numbers_acc_asr(many))
    handles = figure.axes[-1].get_legend().legend_handles[2:]  # the two anchors are named in the panels
    faces = [(h.get_marker(), h.get_markerfacecolor()) for h in handles]
    looks = [(marker, {"white": "open", "#000000": "black"}.get(face, "grey")) for marker, face in faces]
    assert len(set(looks)) == len(looks) == 10
    assert [t.get_text() for t in figure.axes[0].texts if t.get_text()] == ["clean", "attacked"]


def test_arrows_run_from_clean_to_attacked_to_the_recipe(few):
    (panel,) = numbers_acc_asr(few)["panels"]
    place = lambda c: (c["asr"]["mean"], c["acc"]["mean"])  # noqa: E731
    arrows = [(t.xyann, t.xy) for t in draw_acc_asr({"panels": [panel]}).axes[0].texts if t.arrow_patch]
    clean, attacked, recipe = (place(c) for c in (*panel["anchors"].values(), panel["cells"][0]))
    np.testing.assert_allclose(arrows, [(clean, attacked), (attacked, recipe)])


def test_without_the_anchors_there_are_points_and_no_arrows(few):
    figure = draw_acc_asr(numbers_acc_asr(few[few["stage"] == "defended"]))
    assert not [t for t in figure.axes[0].texts if t.arrow_patch]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_sets_has_its_panel(few, count):
    tables = [few.assign(downstream=f"set{i}") for i in range(count)]
    figure = draw_acc_asr(numbers_acc_asr(pd.concat(tables)))
    titled = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert titled == [f"BadEncoder, CIFAR-10 → set{i}, target 12" for i in range(count)]


@pytest.mark.parametrize("loss", ["kd", "cosine"])
def test_the_legend_stays_inside_the_figure(few, loss):
    long = few["student"].eq("random")  # its name is long: poisoned, random, cosine
    table = pd.concat([few[~long | (loss == "cosine")].assign(downstream=f"set{i}") for i in range(3)])
    figure = draw_acc_asr(numbers_acc_asr(table))
    figure.draw_without_rendering()
    box = figure.axes[-1].get_legend().get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    panels = [ax.get_tightbbox() for ax in figure.axes[:3]]
    assert not any(box.overlaps(panel) for panel in panels)
    assert len({round(ax.get_position().width, 6) for ax in figure.axes[:3]}) == 1


def test_the_alt_text_holds_every_encoder(few):
    words = alt_acc_asr(numbers_acc_asr(few))
    assert words.count("/") == 1 + 12
