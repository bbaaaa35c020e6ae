import pandas as pd
import pytest

from distill_lib.plots import numbers_necessity
from distill_lib.plots.necessity import alt_necessity, draw_necessity

ROWS = {"recipe": (40, 8), "recipe, clean teacher": (43, 2), "finetune": (46, 4)}


def priced_rows(seeds=(0, 1)) -> pd.DataFrame:
    """ACC and ASR as in ROWS plus the seed; 10 s and 2048 MB each."""
    about = {"pretrain": "cifar10", "attack": "badencoder", "downstream": "gtsrb"}
    rows = [
        {**about, "row": row, "seed": seed, "acc": acc + seed, "asr": asr + seed, "placebo_asr": 1.0}
        | {"wall_s": 10.0, "peak_rss_mb": 2048.0}
        for row, (acc, asr) in ROWS.items()
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_the_numbers_are_the_rows_means_and_prices():
    (group,) = numbers_necessity(priced_rows())["groups"]
    assert [row["row"] for row in group["rows"]] == list(ROWS)
    recipe = group["rows"][0]
    assert (recipe["acc"]["mean"], recipe["asr"]["mean"], recipe["placebo_asr"]["mean"]) == (40.5, 8.5, 1.0)
    assert (recipe["wall_s"], recipe["peak_rss_mb"], recipe["acc"]["n"]) == (10.0, 2048.0, 2)


def test_only_seeds_that_every_row_has_are_compared():
    rows = priced_rows((0, 1, 100))
    rows = rows[~((rows["row"] == "finetune") & (rows["seed"] == 1))]
    (group,) = numbers_necessity(rows)["groups"]
    assert [row["acc"]["seeds"] for row in group["rows"]] == [[0]] * 3


def test_the_marks_and_prices_drawn_are_the_numbers():
    figure = draw_necessity(numbers_necessity(priced_rows()))
    means = [line.get_xdata()[0] for line in figure.axes[1].get_lines() if line.get_marker() in "oD"]
    assert means == [8.5, 2.5, 4.5]
    assert [text.get_text() for text in figure.axes[2].texts] == ["time (s)", "GB", *["10", "2.00"] * 3]
    assert not figure.axes[0].containers
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}2" in figure.texts[-1].get_text()


def test_a_price_that_nobody_measured_is_a_dash():
    rows = priced_rows().assign(wall_s=None)
    figure = draw_necessity(numbers_necessity(rows))
    assert "–" in [text.get_text() for text in figure.axes[2].texts]


def test_words_and_an_empty_table():
    assert "fine-tuning 46.5/4.5/1.0" in alt_necessity(numbers_necessity(priced_rows()))
    assert " yet " in draw_necessity(numbers_necessity(priced_rows().iloc[:0])).texts[0].get_text()


def test_intervals_from_three_seeds_on():
    assert len(draw_necessity(numbers_necessity(priced_rows(range(3)))).axes[0].containers) == 3
    assert pytest.approx(41.0) == numbers_necessity(priced_rows(range(3)))["groups"][0]["rows"][0]["acc"]["mean"]
