"""A profile as a table: who makes what, in what order; nothing is computed."""

import json
from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study import lists, main_job, notebooks, runner
from distill_lib.study.jobs import expand
from distill_lib.study.session import Study
from distill_lib.study.table import cut
from distill_lib.study.table.fill import identity, listing
from distill_lib.study.table.load import load_table
from distill_lib.study.table.wants import UNKNOWN

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "profiles" / "tiny.toml"
MINUTES = """
[minutes]
pretrain = 10.0
attack = 4.0
cell = 1.5
read = 0.5
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An empty store."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def table(runs):
    """The tiny profile's."""
    return load_table(str(TINY), runs=runs)


@pytest.fixture
def write(tmp_path, runs):
    """Writes the tiny profile with other text; gives its table."""

    def write(*changes, more="", **options):
        text = TINY.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"my{len(list(tmp_path.glob('*.toml')))}.toml"  # a profile is read once a process
        path.write_text(text + more)
        return load_table(str(path), runs=runs, root=tmp_path, **options)

    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    return write


def names(table):
    return [job.name for job in table.jobs]


def needs(table, name):
    return set(table.job(name).needs)


def test_jobs_are_cut_by_seed_attack_and_set(table):
    found = set(names(table))
    assert {"pretrain-s0", "attack-badencoder-patterns-s0", "attack-badencoder-shapes-s0"} <= found
    assert "attack-ctrl-s0" in found  # poisons the pre-training images: one encoder for all sets
    assert {f"{part}-badencoder-patterns-s0" for part in ("teachers", "students", "losses", "necessity")} <= found
    assert "teachers-badencoder-shapes-s0" not in found  # components are compared on one set
    assert {"headline-badencoder-shapes-s0", "headline-ctrl-shapes-s0"} <= found
    assert {f"datafree-teacher-{attack}-s{seed}" for attack in ("badnet_grid", "sig") for seed in (0, 1)} <= found
    assert {f"undistillable-students-{teacher}-s1" for teacher in ("nobody", "normal", "nasty")} <= found
    assert set(notebooks.NOTEBOOKS) <= found


def test_each_comes_after_what_it_is_made_from(table):
    order = names(table)
    assert all(order.index(need) < order.index(job.name) for job in table.jobs for need in job.needs)
    assert needs(table, "attack-badencoder-shapes-s0") == {"pretrain-s0"}
    assert needs(table, "attack-ctrl-s0") == set()
    assert needs(table, "rates-ctrl-shapes-s0") == {"pretrain-s0", "attack-ctrl-s0"}
    assert needs(table, "losses-badencoder-patterns-s0") == {"headline-badencoder-patterns-s0"}
    assert needs(table, "datafree-ood-sig-s1") == {"datafree-teacher-sig-s1"}
    assert {"undistillable-teacher-ast-s0"} < needs(table, "undistillable-students-ast-s0")


def test_notebooks_need_all_that_they_read_and_what_they_needed_before(table):
    assert {"students-badencoder-patterns-s0", "headline-badencoder-patterns-s0"} == needs(table, "03_student")
    assert needs(table, "09_explore") == set(notebooks.NEEDS["09_explore"])
    assert set(notebooks.NEEDS["05_analysis"]) < needs(table, "05_analysis")
    assert "teachers-badencoder-patterns-s0" not in needs(table, "05_analysis")  # but by way of a notebook
    assert {"sweep-trigger_size.1-badencoder-patterns-s0", "01_attack"} < needs(table, "06_robustness")


def test_no_two_jobs_make_the_same(table):
    made = [identity(task) for tasks in table.work.tasks.values() for task in tasks]
    assert len(made) == len(set(made)) > 100
    assert all(0 < len(tasks) <= cut.MOST for tasks in table.work.tasks.values())


def test_many_things_are_made_by_several_jobs(write, monkeypatch):
    monkeypatch.setattr(cut, "MOST", 3)
    table = write()
    parts = [f"losses-badencoder-patterns-s0.{number}" for number in (1, 2, 3)]
    assert [len(table.work.tasks[name]) for name in parts] == [3, 3, 1]
    assert set(parts) < needs(table, "04_loss")


def test_seeds_make_jobs_of_their_own_and_leave_the_others(table, write):
    more = write(seeds=[0, 3])
    assert {"pretrain-s3", "attack-ctrl-s3", "headline-badencoder-shapes-s3"} <= set(names(more))
    assert more.options == ("--seeds", "0,3")
    assert more.command(more.job("pretrain-s3"))[-3:] == ["pretrain-s3", "--seeds", "0,3"]
    for name in ("pretrain-s0", "attack-ctrl-s0", "rates-badencoder-patterns-s0", "losses-badencoder-patterns-s0"):
        assert more.key(more.job(name)) == table.key(table.job(name))


def test_a_key_follows_what_the_job_depends_on(table, write):
    def same(name, *changes):
        other = write(*changes)
        return other.key(other.job(name)) == table.key(table.job(name))

    assert same("pretrain-s0")
    assert not same("pretrain-s0", ("{ batch = 1000, lr = 2e-3 }", "{ batch = 500, lr = 2e-3 }"))
    losses = 'losses = ["kd", "at", "cosine"]', 'losses = ["kd", "at"]'
    assert same("students-badencoder-patterns-s0", losses)
    assert not same("losses-badencoder-patterns-s0", losses)
    assert not same("undistillable-teacher-nasty-s0", ("nasty = { minimum = 0.0 }", "nasty = { omega = 0.5 }"))


def test_notebooks_keep_the_keys_that_they_have_in_the_sequence(table):
    main = main_job.load(str(TINY))
    place = runner.Place(table.root, table.runs, lambda job: main_job.fingerprint(main, job, None))
    planned = runner.plan(expand(main), place)
    assert {each.job.name: each.key for each in planned} == {
        each.job.name: table.key(table.job(each.job.name)) for each in planned
    }
    assert json.loads(json.dumps(planned[0].job.parameters))["seeds"] == [0]


def test_a_device_that_is_not_here_can_be_listed(write):
    table = write(('precision = "bf16"', 'precision = "auto"'), ('device = "cpu"', 'device = "cuda"'))
    assert {job.gpus for job in table.jobs} == {1}
    assert table.work.stages.precision == "bf16"  # as on any GPU
    assert {job.gpus for job in write(device="cpu").jobs} == {0}


def test_what_a_job_wants_is_its_things_and_what_they_share(write):
    table = write(more=MINUTES, time_scale=2.0)
    assert table.job("pretrain-s0").minutes == table.job("attack-ctrl-s0").minutes == 2 * (2 + 2 * 10)  # pre-trains too
    assert table.job("rates-ctrl-shapes-s0").minutes == 2 * (2 + 2 * 3 * 1.5)
    assert table.job("sweep-trigger_size.1-badencoder-patterns-s0").minutes == 2 * (2 + 2 * (1.5 + 4))
    assert table.job("03_student").minutes == 2 * 5  # the least
    assert table.job("datafree-teacher-sig-s0").minutes == 2 * 1440  # was not measured


def test_a_target_that_is_to_be_found_is_left_open(runs):
    stages = listing(str(TINY), None, None, runs)
    study = Study(stages, ROOT, None, False)
    clean, attacked = lists.attack_cells(study)
    assert [(cell.attack, cell.downstream, cell.target) for cell in attacked] == [
        ("badencoder", "patterns", 0),
        ("badencoder", "shapes", 0),
        ("ctrl", "shapes", UNKNOWN),
    ]
    assert [cell.stage for cell in clean] == ["clean"] * 3
    assert not list(runs.glob("makes.log"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu0"}, "unknown device 'gpu0'; allowed: auto, cpu, cuda"),
        ({"data_dir": Path("/no/such")}, "/no/such"),
    ],
)
def test_what_is_wrong_is_said(write, options, words):
    with pytest.raises(UsageError, match=words):
        write(('pretrain = "builtin"', 'pretrain = "cifar10"') if "data_dir" in options else ("[0]", "[0]"), **options)
