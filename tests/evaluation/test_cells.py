import io

import pandas as pd
import pytest

from distill_lib.evaluation.cells import RECIPE, by_seed, latest, pick, scopes, tidy

CSV = """pretrain,attack,downstream,target,stage,defence,teacher,student,loss,seed,n_test,acc,asr
builtin,badencoder,shapes,3,clean,none,,,,0,10,70,2
builtin,badencoder,shapes,3,defended,distillation,finetuned,warmup,at,1,10,61,6
builtin,badencoder,shapes,3,defended,distillation,finetuned,warmup,at,0,10,60,5
builtin,badencoder,shapes,3,defended,distillation,finetuned,warmup,at,100,10,99,9
builtin,badencoder,shapes,3,defended,finetune,,,,0,10,65,5
builtin,none,shapes,,clean,none,,,,0,10,70,
"""


def read(text: str = CSV) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


def test_tidy_drops_explorations_and_names_are_text():
    table = tidy(read())
    assert table["seed"].max() == 1
    assert set(table["teacher"]) == {"", "finetuned"}
    assert set(table["target"]) == {"", "3"}  # read as 3.0, since one cell is empty


def test_a_cell_is_picked_with_its_seeds_in_order():
    found = by_seed(tidy(read()), RECIPE)
    assert found.index.tolist() == [0, 1]
    assert found["acc"].tolist() == [60, 61]
    assert len(pick(tidy(read()), {"defence": "finetune"})) == 1


def test_scopes_leave_out_rows_without_an_attack():
    ((scope, rows),) = scopes(tidy(read()))
    assert scope == {"pretrain": "builtin", "attack": "badencoder", "downstream": "shapes", "target": "3"}
    assert len(rows) == 4


def test_targets_of_several_seeds_are_one_scope():
    table = read().assign(target=lambda rows: rows["seed"] + 3.0)
    ((scope, rows),) = scopes(tidy(table))
    assert scope["target"] == "per seed"
    assert len(rows) == 4


def test_a_seed_with_two_targets_is_an_error():
    with pytest.raises(ValueError, match="twice"):
        tidy(pd.concat([read(), read().assign(target=5)]))


def test_an_empty_table_has_no_scopes():
    assert scopes(tidy(read().iloc[:0])) == []


def test_a_cell_measured_twice_is_an_error():
    with pytest.raises(ValueError, match="twice"):
        tidy(pd.concat([read(), read()]))


def test_of_a_siblings_rows_the_last_of_each_cell_counts():
    rows = pd.DataFrame(
        [("a", "", "0", "1.0"), ("a", "", "0", "2.0"), ("a", "", "100", "3.0"), ("a", "share", "0", "4.0"),
         ("b", None, "0", "5.0")],
        columns=["stage", "setting", "seed", "acc"],
    )  # fmt: skip
    found = latest(rows, ["stage", "seed"], ["seed", "acc"], exploring=False)
    assert found[["stage", "setting", "acc"]].fillna("").to_numpy().tolist() == [
        ["a", "", 2.0], ["a", "share", 4.0], ["b", "", 5.0],
    ]  # fmt: skip
    assert latest(rows, ["stage", "seed"], ["seed", "acc"], exploring=True)["acc"].tolist() == [3.0]
