import pytest
from matplotlib.colors import to_rgba

from distill_lib.evaluation.cells import by_seed, pick, tidy
from distill_lib.plots import numbers_losses, numbers_students, numbers_teachers
from distill_lib.plots.comparison import alt_comparison, draw_comparison
from distill_lib.plots.style import VERMILION, scope_title


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        (numbers_teachers, ["poisoned", "finetuned", "clean"]),
        (numbers_students, ["warmup", "copy"]),
        (numbers_losses, ["kd", "at", "cosine"]),
    ],
)
def test_only_the_named_component_varies_in_its_fixed_order(numbers, names, many):
    found = numbers(many)
    assert [[c["name"] for c in group["cells"]] for group in found["groups"]] == [names, names]
    assert [group["scope"]["attack"] for group in found["groups"]] == ["badencoder", "ctrl"]


def test_the_numbers_are_the_tables(many):
    group = numbers_losses(many)["groups"][0]
    rows = by_seed(
        pick(tidy(many), {"attack": "badencoder", "teacher": "finetuned", "student": "warmup"}),
        {"loss": "kd"},
    )
    assert group["cells"][0]["acc"]["values"] == rows["acc"].tolist()
    assert group["cells"][0]["asr"]["mean"] == pytest.approx(rows["asr"].mean())
    assert group["anchors"]["attacked"]["asr"]["n"] == 4


def test_the_marks_drawn_are_the_numbers(many):
    numbers = numbers_losses(many)
    figure = draw_comparison(numbers)
    cells = numbers["groups"][0]["cells"]
    for ax, rate in zip(figure.axes[:2], ("acc", "asr"), strict=True):
        means = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() in ("o", "D")]
        assert means == [c[rate]["mean"] for c in cells]
        seeds = [
            list(line.get_xdata()) for line in ax.get_lines() if line.get_markersize() == 7 and line.get_marker() == "|"
        ]
        assert seeds == [c[rate]["values"] for c in cells]
        assert len(ax.containers) == 3  # whiskers, n = 4
    assert all(len(ax.containers) == 0 for ax in figure.axes[2:])  # n = 2
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["KD", "AT", "cosine"]


def test_the_papers_best_is_marked_by_shape_too(few):
    ax = draw_comparison(numbers_losses(few)).axes[0]
    marks = {line.get_marker(): to_rgba(line.get_markerfacecolor()) for line in ax.get_lines()}
    assert marks["D"] == to_rgba(VERMILION)
    controls = draw_comparison(numbers_teachers(few)).axes[0].get_lines()
    assert to_rgba("white") in [to_rgba(line.get_markerfacecolor()) for line in controls if line.get_marker() == "o"]


def test_seeds_whose_target_was_found_are_one_scope(many):
    rows = many[many["attack"] == "badencoder"]
    rows = rows.assign(target=rows["seed"].map(dict(enumerate((3, 5, 3, 1)))))
    (group,) = numbers_teachers(rows)["groups"]
    assert {cell["acc"]["n"] for cell in group["cells"]} == {4}
    assert scope_title(group["scope"]) == "BadEncoder, CIFAR-10 → GTSRB, target per seed"


def test_a_scope_with_the_recipe_alone_compares_nothing(few):
    alone = few[(few["loss"].isna()) | (few["loss"] == "at")]
    assert numbers_losses(alone)["groups"] == []
    assert "No losses to compare yet" in draw_comparison(numbers_losses(alone)).texts[0].get_text()


def test_missing_anchors_are_left_out(few):
    figure = draw_comparison(numbers_losses(few[few["stage"] == "defended"]))
    assert len(figure.axes) == 2
    assert "clean encoder" not in figure.texts[-1].get_text()


def test_the_alt_text_holds_every_mean(few):
    numbers = numbers_students(few)
    mean = numbers["groups"][0]["cells"][1]["asr"]["mean"]
    assert f"/{mean:.1f}" in alt_comparison(numbers)


def test_only_seeds_that_every_cell_has_are_compared(few):
    one = few[~((few["loss"] == "kd") & (few["seed"] == 1))]
    (group,) = numbers_losses(one)["groups"]
    assert [cell["acc"]["n"] for cell in group["cells"]] == [1] * len(group["cells"])
    (whole,) = numbers_losses(few)["groups"]
    kept, both = (next(c for c in g["cells"] if c["name"] == "at") for g in (group, whole))
    assert kept["acc"]["values"] == both["acc"]["values"][:1]
