"""Verdicts and the reproduction table of the data-free study."""

import math

import pandas as pd
import pytest

from distill_lib.errors import UsageError
from distill_lib.evaluation.claims import load_claims
from distill_lib.evaluation.datafree import published_variants, table_one, verdicts_datafree

CELLS = {
    ("teacher", "", "none"): (92, 99),
    ("student", "clean_kd", "none"): (70, 4),
    ("student", "ood", "none"): (71, 96),
    ("student", "ood", "abd"): (68, 8),
}


def made_up(seeds, cells=CELLS):
    return pd.DataFrame(
        {"dataset": "cifar10", "attack": "badnet_grid", "target": 0, "target_rate": 1.0, "stage": stage}
        | {"method": method, "defence": defence, "seed": seed, "n_test": 10}
        | {"acc": acc + 0.1 * seed, "asr": asr + 0.2 * (seed % 3)}
        for (stage, method, defence), (acc, asr) in cells.items()
        for seed in seeds
    )


def verdict_of(table):
    return verdicts_datafree(table).set_index("claim")["verdict"].to_dict()


def test_six_seeds_decide_what_was_measured():
    found = verdict_of(made_up(range(6)))
    assert found["clean_data_is_safe"] == "supported"
    assert found["without_data_it_transfers"] == "supported"
    assert found["abd_compatible"] == "supported"
    assert found["abd_plug_in"] == "undecided (n = 0)"  # one method alone


def test_few_seeds_decide_nothing():
    assert set(verdict_of(made_up(range(3))).values()) == {"undecided (n = 3)", "undecided (n = 0)"}


def test_a_defence_that_costs_too_much_is_refuted():
    costly = {**CELLS, ("student", "ood", "abd"): (60, 8)}
    assert verdict_of(made_up(range(6), costly))["abd_compatible"] == "refuted"


def test_a_student_that_collapsed_onto_the_target_class_has_learnt_no_backdoor():
    rows = made_up(range(6))
    rows.loc[(rows["method"] == "ood") & (rows["defence"] == "none"), "target_rate"] = 90.0
    assert verdict_of(rows)["without_data_it_transfers"] == "refuted"


@pytest.mark.parametrize(("asr", "verdict"), [(33, "not transferred"), (35, "supported")])
def test_a_defence_is_judged_where_a_backdoor_arrived(asr, verdict):
    """The floor is clean data's 4.2 % + 30 points; a student that holds no backdoor cannot be halved."""
    cells = {**CELLS, ("student", "ood", "none"): (71, asr), ("student", "ood", "abd"): (68, 8)}
    found = verdicts_datafree(made_up(range(6), cells)).set_index("claim")
    assert found.loc["abd_compatible", "verdict"] == verdict
    note = found.loc["abd_compatible", "note"]
    assert ("ood: ASR 33.2 % is below clean's 4.2 % + 30 points" in note) == (verdict == "not transferred")
    assert found.loc["clean_data_is_safe", "verdict"] == "supported"


def test_a_backdoor_that_did_not_arrive_is_no_refutation():
    """As in the published Table 1: without a defence 0.0 and 8.3 %, with it 0 and more."""
    cells = {**CELLS, ("student", "ood", "none"): (71, 3), ("student", "ood", "abd"): (68, 4)}
    found = verdict_of(made_up(range(6), cells))
    assert found["abd_compatible"] == "not transferred"
    assert found["without_data_it_transfers"] == "refuted"


def test_every_method_must_have_transferred_it_for_the_plug_in():
    other = {("student", "zskt", "none"): (60, 90), ("student", "zskt", "abd"): (58, 5)}
    other |= {("student", "cmi", "none"): (80, 2), ("student", "cmi", "abd"): (79, 2)}
    row = verdicts_datafree(made_up(range(6), CELLS | other)).set_index("claim").loc["abd_plug_in"]
    assert row["verdict"] == "not transferred"
    assert "cmi: ASR 2.2 %" in row["note"]
    assert "zskt" not in row["note"]
    other[("student", "cmi", "none")] = (80, 60)
    assert verdict_of(made_up(range(6), CELLS | other))["abd_plug_in"] == "supported"
    other[("student", "zskt", "abd")] = (40, 5)
    assert verdict_of(made_up(range(6), CELLS | other))["abd_plug_in"] == "refuted"  # at a cost of 20 points


def test_the_gate_needs_both_cells():
    unmeasured = {key: value for key, value in CELLS.items() if key[1:] != ("ood", "none")}
    assert verdict_of(made_up(range(6), unmeasured))["abd_compatible"] == "undecided (n = 0)"


def test_an_attack_that_is_not_planted_gets_no_verdict():
    weak = {**CELLS, ("teacher", "", "none"): (92, 20)}
    assert set(verdict_of(made_up(range(6), weak)).values()) == {"not planted"}


def test_table_one_stands_beside_ours():
    found = table_one(made_up(range(2)), "ours").set_index(["stage", "method", "defence"])
    ood = found.loc[("student", "ood", "none")]
    assert (ood["published_acc"], ood["published_asr"], ood["n"]) == (79.8, 99.6, 2)
    assert ood["acc"] == pytest.approx(71.05)
    assert math.isnan(found.loc[("student", "zskt", "abd"), "asr"])
    assert found.loc[("student", "zskt", "abd"), "published_asr"] == 0.7
    assert "80,000" in found.loc[("teacher", "", "none"), "note"]
    assert set(found["attack"]) == {"badnet_grid"}
    clean = found.loc[("student", "clean_kd", "none"), "note"]
    assert "WRN-40-2 to WRN-16-1" in clean
    assert "80,000" not in clean


def test_the_published_variants_have_both_rates():
    found = published_variants()
    assert found["badnet_grid"]["zskt"]["sr"] == [68.3, 76.2]
    assert found["sig"]["zskt"]["sv"] == [72.2, 0.0]
    assert len(found) == 10


def test_a_study_without_claims_is_said():
    with pytest.raises(UsageError, match="unknown study 'x'; allowed: distillation, datafree, undistillable"):
        load_claims(study="x")
