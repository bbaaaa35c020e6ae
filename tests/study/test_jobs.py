import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.jobs import Job, expand, parse_seeds


def entry(stem, *needs, **rest):
    parameters = {"seeds": [0, 1], "attack": "badencoder"}
    return SimpleNamespace(notebook=stem, parameters=parameters, needs=needs, **rest)


def profile(*entries):
    return SimpleNamespace(name="quick", notebooks=entries)


THREE = profile(entry("01_a"), entry("02_b", "01_a", gpus=1, minutes=2.5, makes=["f.png"]), entry("03_c", "02_b"))


def names(jobs):
    return [job.name for job in jobs]


def test_a_job_holds_what_an_engine_must_know():
    job = expand(THREE)[1]
    values = {"profile": "quick", "seeds": [0, 1], "attack": "badencoder"}
    assert job == Job("02_b", "02_b", values, ("01_a",), ("f.png",), 1, 2.5)
    assert json.loads(json.dumps(asdict(job)))["makes"] == ["f.png"]


def test_expansion_is_pure_and_may_be_spare():
    plain = SimpleNamespace(notebook="01_a", parameters={})
    jobs = expand(profile(plain), seeds=[3], device="cpu")
    assert jobs == [Job("01_a", "01_a", {"profile": "quick", "device": "cpu"})]
    assert plain.parameters == {}


def test_seeds_and_device_replace_the_profile_s():
    jobs = expand(THREE, seeds=(4, 5), device="cuda")
    assert [job.parameters["seeds"] for job in jobs] == [[4, 5]] * 3
    assert {job.parameters["device"] for job in jobs} == {"cuda"}
    assert expand(THREE)[0].parameters["seeds"] == [0, 1]


def test_only_takes_what_is_needed_along():
    assert names(expand(THREE, only=["01_a"])) == ["01_a"]
    assert names(expand(THREE, only=["03_c"])) == ["01_a", "02_b", "03_c"]
    independent = profile(entry("01_a"), entry("02_b"))
    assert names(expand(independent, only=["02_b"])) == ["02_b"]
    assert names(expand(independent, only=["02_b", "01_a", "02_b"])) == ["01_a", "02_b"]


def test_needs_come_first():
    assert names(expand(profile(entry("01_a", "02_b"), entry("02_b")))) == ["02_b", "01_a"]


def test_an_unknown_notebook_is_named_with_those_allowed():
    with pytest.raises(UsageError, match="unknown notebook '99_x'; allowed: 01_a, 02_b, 03_c"):
        expand(THREE, only=["99_x"])
    with pytest.raises(UsageError, match="unknown notebook '99_x'; allowed: 01_a"):
        expand(profile(entry("01_a", "99_x")))


def test_a_circle_of_needs_is_shown():
    with pytest.raises(UsageError, match="circle: 01_a -> 02_b -> 01_a"):
        expand(profile(entry("01_a", "02_b"), entry("02_b", "01_a")))


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-5", [0, 1, 2, 3, 4, 5]),
        ("0,2,4", [0, 2, 4]),
        ("0-2,7", [0, 1, 2, 7]),
        ("7, 1-2 ,2", [1, 2, 7]),
        ("4-4", [4]),
        ("0-999", list(range(1000))),
    ],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["x", "", "-1", "1-", "5-2", "1,,2", "0-1000", "1.5", "0x1", "٣", "1-2-3", "9" * 10])
def test_seeds_that_are_none(text):
    with pytest.raises(UsageError, match=r"--seeds '.*' is not a list of seeds; allowed: .*0-5"):
        parse_seeds(text)
