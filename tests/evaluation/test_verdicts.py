import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from distill_lib.evaluation.cells import by_seed, tidy
from distill_lib.evaluation.claims import Claim, Part, load_claims
from distill_lib.evaluation.verdicts import acceptance, planting, verdicts

SCOPE = {"pretrain": "cifar10", "attack": "badencoder", "downstream": "gtsrb", "target": 12}
CELLS = load_claims().cells
# The recipe wins every comparison, and keeps accuracy.
BEST = {
    "clean": (50, 1),
    "attacked": (49, 97),
    "recipe": (48, 5),
    "finetune": (46, 20),
    "clean_share": (40, 3),
    **{name: (43, 15) for name in CELLS if name.startswith(("teacher_", "student_", "loss_"))},
}


def table(cells: dict, seeds=range(6), spread: float = 0.4, **scope) -> pd.DataFrame:
    """A made-up distillation.csv: ACC and ASR of each cell, with a little noise a seed."""
    rng = np.random.default_rng(0)
    rows = []
    for name, (acc, asr) in cells.items():
        for seed in seeds:
            cell = {"defence": "none", **CELLS[name]}
            noise = spread * rng.normal(size=2)
            rates = {"acc": acc + noise[0], "asr": asr + noise[1], "placebo_asr": 4.0}
            rows.append({**SCOPE, **scope, **cell, "seed": seed, "n_test": 100, **rates})
    return pd.DataFrame(rows)


def judged(frame: pd.DataFrame) -> dict[str, pd.Series]:
    return {row.claim: row for row in verdicts(frame).itertuples()}


def test_a_recipe_that_wins_everything_supports_every_claim():
    found = judged(table(BEST))
    assert {row.verdict for row in found.values()} == {"supported"}
    teacher = found["best_teacher"]
    assert (teacher.n, teacher.seeds, len(teacher.points)) == (6, (0, 1, 2, 3, 4, 5), 6)
    assert teacher.effect == pytest.approx(15, abs=1)  # 43 - 28
    assert teacher.low < teacher.effect < teacher.high
    assert teacher.p < 0.05
    assert teacher.sign_flip_p == 2 / 64
    assert found["beats_finetune"].effect_acc == pytest.approx(2, abs=0.7)
    assert found["beats_finetune"].effect_asr == pytest.approx(-15, abs=0.7)


def test_the_weakest_comparison_decides():
    found = judged(table({**BEST, "student_copy": (48, 6)}, spread=0.05))
    row = found["best_student"]
    assert row.comparison == "ACC - ASR: recipe minus student_copy"
    assert row.effect == pytest.approx(1, abs=0.2)


def test_a_better_rival_refutes_that_something_is_best():
    found = judged(table({**BEST, "loss_sp": (49, 2)}))
    assert found["best_loss"].verdict == "refuted"
    assert found["best_loss"].comparison.endswith("loss_sp")
    assert found["best_loss"].high < 0
    assert found["best_student"].verdict == "supported"


def test_a_rival_that_cannot_be_told_apart_leaves_it_undecided():
    found = judged(table({**BEST, "loss_afd": (48, 5)}, spread=2))
    assert found["best_loss"].verdict == "undecided (n = 6)"
    assert found["best_loss"].p > 0.05


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_than_six_seeds_decide_nothing_but_show_effect_and_points(n):
    for row in judged(table(BEST, seeds=range(n))).values():
        assert row.verdict == f"undecided (n = {n})"
        assert len(row.points) == n
        assert row.effect == pytest.approx(np.mean(row.points))
        assert math.isnan(row.p)
        assert math.isnan(row.low)


def test_explorations_do_not_count_as_seeds():
    found = judged(table(BEST, seeds=[0, 1, 2, 3, 4, 100, 101, 102]))
    assert {row.verdict for row in found.values()} == {"undecided (n = 5)"}


def test_only_seeds_that_have_every_cell_are_paired():
    frame = table(BEST)
    frame = frame[~((frame["defence"] == "finetune") & (frame["seed"] == 3))]
    row = judged(frame)["beats_finetune"]
    assert (row.verdict, row.seeds) == ("undecided (n = 5)", (0, 1, 2, 4, 5))


def test_a_missing_cell_is_named():
    cells = {name: value for name, value in BEST.items() if name != "teacher_pruned"}
    row = judged(table(cells))["best_teacher"]
    assert (row.verdict, row.note) == ("undecided (n = 0)", "not measured: teacher_pruned")


def test_an_attack_below_the_floor_plus_30_gets_no_verdict():
    weak = table({**BEST, "attacked": (49, 33.5)}, spread=0)
    assert {row.verdict for row in judged(weak).values()} == {"not planted"}
    assert "below the floor of 4.0 % + 30 points" in verdicts(weak)["note"][0]
    assert "not planted" not in set(verdicts(table({**BEST, "attacked": (49, 34)}, spread=0))["verdict"])


def test_the_floor_is_the_larger_of_clean_encoder_and_placebo():
    high = tidy(table({**BEST, "clean": (50, 37.5)}, spread=0))
    assert planting(high).floor == 37.5
    assert planting(tidy(table(BEST, spread=0))).floor == 4.0  # the placebo's
    assert planting(high).planted
    assert not planting(tidy(table({**BEST, "clean": (50, 70)}, spread=0))).planted


@pytest.mark.parametrize(
    ("clean", "attacked", "planted", "full"),
    [
        ((50, 1), (47, 80), True, True),
        ((50, 1), (46.9, 80), True, False),
        ((50, 1), (50, 79.9), True, False),
        ((50, 1), (50, 33.9), False, False),  # the placebo's 4 + 30
        ((50, 60), (50, 85), False, False),
    ],
)
def test_the_acceptance_band(clean, attacked, planted, full):
    (row,) = acceptance(table({"clean": clean, "attacked": attacked}, spread=0)).to_dict("records")
    assert (row["planted"], row["full"], row["n"]) == (planted, full, 6)
    assert row["acc_change"] == pytest.approx(attacked[0] - clean[0])


def test_without_the_attacked_encoder_nothing_is_decided():
    cells = {name: value for name, value in BEST.items() if name != "attacked"}
    row = judged(table(cells))["best_teacher"]
    assert row.verdict == "undecided (n = 6)"
    assert "attacked encoder was not measured" in row.note


@pytest.mark.parametrize(
    ("recipe", "verdict"),
    [
        ((48, 40), "supported"),
        ((48, 60), "refuted"),
        ((38, 10), "refuted"),
        ((48, 48.5), "undecided (n = 6)"),
    ],
)
def test_halving_the_asr_at_a_price(recipe, verdict):
    # Half of 97 is 48.5; 6.35 points below 49 and 50 lie 42.65 and 43.65.
    assert judged(table({**BEST, "recipe": recipe}, spread=1))["halves_asr"].verdict == verdict


def protocol_of(test: str, **more):
    part = Part(test=test, quantity={"acc": 1.0}, cell="recipe", against=("finetune",), **more)
    protocol = load_claims()
    return protocol.__class__(0.95, 6, 30.0, protocol.cells, (Claim("c", "made up", (part,)),))


@pytest.mark.parametrize(("acc", "verdict"), [(48, "supported"), (53, "refuted"), (50, "undecided (n = 6)")])
def test_equivalence(acc, verdict):
    frame = table({**BEST, "finetune": (acc, 5)}, spread=0.3)
    (found,) = verdicts(frame, protocol_of("equivalence", margin=2)).itertuples()
    assert found.verdict == verdict
    assert found.effect == pytest.approx(48 - acc, abs=0.6)


@pytest.mark.parametrize(("acc", "verdict"), [(49, "supported"), (53, "refuted"), (40, "supported")])
def test_no_worse(acc, verdict):
    frame = table({**BEST, "finetune": (acc, 5)}, spread=0.3)
    assert verdicts(frame, protocol_of("no worse", margin=2))["verdict"].tolist() == [verdict]


def test_superiority_needs_its_margin():
    frame = table(BEST, spread=0.3)  # 2 points of ACC
    assert verdicts(frame, protocol_of("superiority"))["verdict"].tolist() == ["supported"]
    assert verdicts(frame, protocol_of("superiority", margin=4))["verdict"].tolist() == ["refuted"]


def test_holm_over_the_claims_weakens_each():
    frame = table(BEST, spread=0.9)
    alone, *_ = verdicts(frame, protocol_of("superiority")).itertuples()
    protocol = protocol_of("superiority")
    claims = tuple(Claim(f"c{i}", "made up", protocol.claims[0].parts) for i in range(4))
    together = verdicts(frame, protocol.__class__(0.95, 6, 30.0, protocol.cells, claims))
    assert 0.0125 < alone.p < 0.05  # decided alone, not among four
    assert alone.verdict == "supported"
    assert together["p"].tolist() == pytest.approx([4 * alone.p] * 4)
    assert set(together["verdict"]) == {"undecided (n = 6)"}


@pytest.mark.parametrize(("spread", "verdict"), [(0.3, "refuted"), (1.6, "undecided (n = 6)")])
def test_one_rival_of_several_that_is_better_must_be_better_by_bonferroni(spread, verdict):
    """Two points better at a wide spread: enough for one comparison, not for the best of two."""
    rivals = ("finetune", "clean_share")
    protocol = protocol_of("best-of")
    part = Part(test="best-of", quantity={"acc": 1.0}, cell="recipe", against=rivals)
    frame = table({**BEST, "finetune": (50, 5), "clean_share": (30, 5)}, spread=spread)
    several = protocol.__class__(0.95, 6, 30.0, protocol.cells, (Claim("c", "made up", (part,)),))
    (found,) = verdicts(frame, several).itertuples()
    recipe, finetune = (by_seed(tidy(frame), protocol.cells[name])["acc"] for name in ("recipe", "finetune"))
    one_sided = ttest_rel(recipe, finetune, alternative="less").pvalue
    assert found.p == pytest.approx(2 * len(rivals) * one_sided)
    assert found.verdict == verdict
    assert one_sided < 0.025  # alone it would be refuted in both


def test_a_seed_on_which_the_attack_failed_stays_and_is_told():
    frame = table(BEST, spread=0.3)
    frame.loc[(frame["stage"] == "attacked") & (frame["seed"] == 3), "asr"] = 19.0
    assert (planting(tidy(frame)).on, planting(tidy(frame)).n) == (5, 6)
    found = verdicts(frame)
    assert set(found["n"]) == {6}
    assert set(found["note"]) == {"planted on 5 of 6 seeds"}
    assert set(verdicts(table(BEST))["note"]) == {""}


def test_scopes_are_judged_apart():
    frame = pd.concat([table(BEST), table(BEST, seeds=range(2), attack="ctrl", downstream="cifar10", target=0)])
    found = verdicts(frame).set_index(["attack", "claim"])["verdict"]
    assert found["badencoder", "best_loss"] == "supported"
    assert found["ctrl", "best_loss"] == "undecided (n = 2)"
    assert len(found) == 12


FOUND = dict(enumerate((3, 5, 3, 1, 5, 2)))


def test_seeds_whose_target_was_found_belong_together():
    one = table(BEST, attack="ctrl")
    several = one.assign(target=one["seed"].map(FOUND))
    found = verdicts(several)
    assert set(found["target"]) == {"per seed"}
    assert set(verdicts(one)["target"]) == {"12"}
    pd.testing.assert_frame_equal(found.drop(columns="target"), verdicts(one).drop(columns="target"))
    assert set(found["verdict"]) == {"supported"}
    assert planting(tidy(several)) == planting(tidy(one))


def test_an_empty_table_gives_no_rows_and_all_columns():
    found = verdicts(table(BEST).iloc[:0])
    assert len(found) == 0
    assert {"claim", "verdict", "effect", "low", "high", "n", "seeds", "p"} <= set(found.columns)
