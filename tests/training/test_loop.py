"""The training loop: against hand-written optimisers, its schedules, and resuming to the bit."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.training import loop
from distill_lib.training.loop import Schedule, Watch, train

COUNT, LENGTH = 10, 3
OPTIMISERS = {"adam": {"lr": 0.05, "weight_decay": 0.1}, "sgd": {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.8}}


def data():
    source = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, LENGTH, generator=source), torch.randn(COUNT, generator=source)


class Stop(Exception):
    """Stands for a killed process."""


# ---- one step after the other, by hand ------------------------------------------------------------------------------


def regression(seen=None):
    """Linear regression without a bias: the model and its objective, which notes the rows it was given."""
    inputs, targets = data()
    model = nn.Linear(LENGTH, 1, bias=False)
    nn.init.constant_(model.weight, 0.3)

    def objective(rows, _generator):
        if seen is not None:
            seen.append(rows.tolist())
        return {"squares": (model(inputs[rows]).squeeze(1) - targets[rows]).square().mean()}

    return model, objective


def gradient(weight, rows):
    inputs, targets = (each.double().numpy()[rows] for each in data())
    return 2 * inputs.T @ (inputs @ weight - targets) / len(rows)


def adam_by_hand(batches, rates, decay):
    """Algorithm 1 of Kingma and Ba (2015), the L2 penalty in the gradient."""
    weight, first, second = np.full(LENGTH, 0.3), np.zeros(LENGTH), np.zeros(LENGTH)
    for step, (rows, rate) in enumerate(zip(batches, rates, strict=True), 1):
        g = gradient(weight, rows) + decay * weight
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        weight = weight - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return weight


def sgd_by_hand(batches, rates, decay, momentum):
    weight, velocity = np.full(LENGTH, 0.3), np.zeros(LENGTH)
    for rows, rate in zip(batches, rates, strict=True):
        velocity = momentum * velocity + gradient(weight, rows) + decay * weight
        weight = weight - rate * velocity
    return weight


RATES = {  # of 8 steps at a rate of .05
    "constant": [0.05] * 8,
    "cosine": [0.05 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)],
}


@pytest.mark.parametrize("decay", ["constant", "cosine"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_steps_equal_the_optimiser_by_hand(optimiser, decay):
    seen = []
    model, objective = regression(seen)
    settings = OPTIMISERS[optimiser]
    train(model, objective, COUNT, Schedule(8, 4, optimiser, decay=decay, **settings), seed=1)
    by_hand = {
        "adam": lambda: adam_by_hand(seen, RATES[decay], 0.1),
        "sgd": lambda: sgd_by_hand(seen, RATES[decay], 0.1, 0.8),
    }
    assert len(seen) == 8
    np.testing.assert_allclose(model.weight.detach().numpy()[0], by_hand[optimiser](), rtol=1e-5)


def test_terms_are_summed():
    """Two halves of a loss train as the whole."""
    whole, objective = regression()
    train(whole, objective, COUNT, Schedule(3, 4), seed=1)
    parted, half = regression()
    train(parted, lambda *a: {name: half(*a)["squares"] / 2 for name in "ab"}, COUNT, Schedule(3, 4), seed=1)
    torch.testing.assert_close(parted.weight, whole.weight)


def test_only_parameters_that_ask_for_gradients_are_trained():
    model, objective = regression()
    modules = nn.ModuleDict({"model": model, "frozen": nn.Linear(2, 2).requires_grad_(False), "idle": nn.Linear(2, 2)})
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    train(modules, objective, COUNT, Schedule(3, 4), seed=1)
    changed = [name for name, value in modules.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["model.weight"]


def test_no_steps_change_nothing():
    model, objective = regression()
    assert train(model, objective, COUNT, Schedule(0), seed=1) == []
    assert (model.weight == 0.3).all()


# ---- schedules ------------------------------------------------------------------------------------------------------


def test_constant_rate():
    assert [Schedule(5, lr=0.2).rate(step) for step in range(5)] == [0.2] * 5


def test_cosine_rate():
    schedule = Schedule(100, lr=0.2, decay="cosine")
    assert schedule.rate(0) == 0.2
    assert schedule.rate(50) == pytest.approx(0.1)
    assert schedule.rate(25) == pytest.approx(0.2 * (1 + math.sqrt(0.5)) / 2)
    assert 0 < schedule.rate(99) < 0.2 * 3e-4


def test_warmup():
    schedule = Schedule(100, lr=0.2, warmup=4)
    assert [schedule.rate(step) for step in range(6)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    both = Schedule(100, lr=0.2, warmup=4, decay="cosine")
    assert both.rate(1) == pytest.approx(0.1 * (1 + math.cos(0.01 * math.pi)) / 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimiser": "adamw"}, "unknown optimiser 'adamw'; allowed: adam, sgd"),
        ({"decay": "step"}, "unknown decay 'step'; allowed: constant, cosine"),
        ({"steps": -1}, "steps -1, .* allowed: steps >= 0"),
        ({"batch": 1}, "batch 1, .* batch >= 2"),
        ({"lr": 0.0}, "lr 0.0 are impossible"),
        ({"lr": math.nan}, "lr nan are impossible"),
    ],
)
def test_impossible_schedules_are_named(settings, words):
    with pytest.raises(UsageError, match=words):
        Schedule(**{"steps": 5} | settings)


# ---- data order -----------------------------------------------------------------------------------------------------


def order(seed, steps=7, batch=4, count=COUNT):
    seen = []
    model, objective = regression(seen)
    train(model, lambda rows, source: objective(rows % COUNT, source), count, Schedule(steps, batch), seed)
    return seen


def test_an_epoch_draws_no_image_twice():
    seen = order(0)
    for first, second in zip(seen[::2], seen[1::2], strict=False):
        assert len({*first, *second}) == 8  # two batches of 4 out of 10, the rest dropped
    assert seen[0] + seen[1] != seen[2] + seen[3]


def test_every_image_gets_its_turn():
    rows = np.bincount(np.concatenate(order(0, steps=1000)), minlength=COUNT)
    assert rows.min() > 0.9 * 400
    assert rows.max() < 1.1 * 400


def test_the_seed_decides_the_order():
    assert order(3) == order(3)
    assert order(3) != order(4)


def test_a_batch_larger_than_the_set_is_the_whole_set():
    assert [sorted(rows) for rows in order(0, steps=3, batch=64)] == [list(range(COUNT))] * 3


def test_global_generators_are_left_as_they_were():
    model, objective = regression()
    before = torch.get_rng_state()
    train(model, objective, COUNT, Schedule(5, 4), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


# ---- log and reports ------------------------------------------------------------------------------------------------


def test_the_log_and_the_reports():
    model, objective = regression()
    reports = []
    watch = Watch(report=lambda *values: reports.append(values), log_points=3)
    log = train(model, objective, COUNT, Schedule(10, 4, decay="cosine", lr=0.1), 0, watch)
    assert [row["step"] for row in log] == [3, 6, 9, 10]
    assert [row["lr"] for row in log] == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 10)) for k in (2, 5, 8, 9)])
    epochs = [row["step"] * 4 / COUNT for row in log]
    assert reports == [
        (row["step"], 10, {"squares": row["squares"], "epoch": epoch}) for row, epoch in zip(log, epochs, strict=True)
    ]


def test_the_log_takes_what_is_measured_and_the_training_nothing():
    (plain, objective), (watched, same), asked = regression(), regression(), iter(range(100))
    train(plain, objective, COUNT, Schedule(10, 4), 0)
    watch = Watch(log_points=3, measure=lambda: {"asked": next(asked)})
    log = train(watched, same, COUNT, Schedule(10, 4), 0, watch)
    assert [(row["step"], row["asked"]) for row in log] == [(3, 0), (6, 1), (9, 2), (10, 3)]
    assert torch.equal(plain.weight, watched.weight)


def test_between_the_points_of_the_log_a_report_is_due_after_a_second(monkeypatch):
    now, reports = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.3) or now[0])
    watch = Watch(report=lambda step, *_: reports.append(step), log_points=1)
    model, objective = regression()
    log = train(model, objective, COUNT, Schedule(10, 4), 0, watch)
    assert [row["step"] for row in log] == [10]
    assert 2 <= len(reports) < 10
    assert all(type(row["squares"]) is float for row in log)


@pytest.mark.parametrize(("steps", "rows"), [(7, 7), (50, 50), (100, 50), (1000, 50), (1010, 51)])
def test_about_fifty_rows_of_log(steps, rows):
    model, objective = regression()
    assert len(train(model, objective, COUNT, Schedule(steps), 0)) == rows


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_longer_finite_stops_the_training(value):
    model, objective = regression()
    calls = []

    def breaks(rows, source):
        calls.append(1)
        (loss,) = objective(rows, source).values()
        return {"good": loss, "bad": loss * (value if len(calls) == 4 else 1.0)}

    with pytest.raises(FloatingPointError, match=r"no longer finite at step 4: .*bad"):
        train(model, breaks, COUNT, Schedule(9, 4), 0)
    assert len(calls) == 4


def test_opposite_infinities_do_not_cancel():
    model, objective = regression()

    def breaks(rows, source):
        (loss,) = objective(rows, source).values()
        return {"up": loss * math.inf, "down": -loss * math.inf}

    with pytest.raises(FloatingPointError):
        train(model, breaks, COUNT, Schedule(1, 4), 0)


# ---- resuming -------------------------------------------------------------------------------------------------------


def noisy(stop_at=None):
    """A small net with batch norm in channels_last memory, whose objective draws noise; it can die in the middle."""
    source = torch.Generator().manual_seed(2)
    images = torch.rand(COUNT, 3, 6, 6, generator=source).contiguous(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    model = model.to(memory_format=torch.channels_last).train()
    calls = []

    def objective(rows, generator):
        calls.append(len(rows))
        if len(calls) == stop_at:
            raise Stop
        output = model(images[rows] + 0.1 * torch.randn(images[rows].shape, generator=generator))
        return {"first": output[:, 0].square().mean(), "second": (output[:, 1] - 1).square().mean()}

    return model, objective


def schedule(optimiser):
    return Schedule(11, 4, optimiser, decay="cosine", warmup=2, **OPTIMISERS[optimiser])


def always(path, **others):
    return Watch(checkpoint=path, every_s=-1.0, log_points=4, **others)


def same(first, second):
    """Equal bit for bit, all the way down."""
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name, value in first.items():
            same(value, second[name])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    else:
        assert first == second


@pytest.fixture
def uninterrupted(tmp_path):
    def run(optimiser):
        model, objective = noisy()
        log = train(model, objective, COUNT, schedule(optimiser), 5, always(tmp_path / "whole.pt"))
        return log, model.state_dict(), torch.load(tmp_path / "whole.pt", weights_only=True)

    return run


def resumed_equals(expected, optimiser, path):
    """Weights, batch-norm buffers, optimiser, generator, data order and log, at the end."""
    model, objective = noisy()
    log = train(model, objective, COUNT, schedule(optimiser), 5, always(path))
    expected_log, weights, checkpoint = expected
    assert log == expected_log
    same(model.state_dict(), weights)
    same(torch.load(path, weights_only=True), checkpoint)


@pytest.mark.parametrize("step", [2, 4, 8, 11])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, uninterrupted, optimiser, step):
    """Killed inside the step's objective."""
    path = tmp_path / "killed.pt"
    model, objective = noisy(stop_at=step)
    with pytest.raises(Stop):
        train(model, objective, COUNT, schedule(optimiser), 5, always(path))
    assert torch.load(path, weights_only=True)["step"] == step - 1
    resumed_equals(uninterrupted(optimiser), optimiser, path)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_killed_twice_while_reporting(tmp_path, uninterrupted, optimiser):
    path = tmp_path / "killed.pt"
    for last in (4, 8):

        def report(step, _steps, _terms, last=last):
            if step == last:
                raise Stop

        model, objective = noisy()
        with pytest.raises(Stop):
            train(model, objective, COUNT, schedule(optimiser), 5, always(path, report=report))
        assert torch.load(path, weights_only=True)["step"] == last - 1
    resumed_equals(uninterrupted(optimiser), optimiser, path)


def test_a_resumed_training_goes_on_where_it_stopped(tmp_path):
    path, reports = tmp_path / "killed.pt", []
    model, objective = noisy(stop_at=9)
    with pytest.raises(Stop):
        train(model, objective, COUNT, schedule("adam"), 5, always(path))
    model, objective = noisy()
    train(model, objective, COUNT, schedule("adam"), 5, always(path, report=lambda step, *_: reports.append(step)))
    assert reports == [10, 11]


def test_a_finished_training_is_not_repeated(tmp_path):
    path = tmp_path / "done.pt"
    model, objective = noisy()
    log = train(model, objective, COUNT, schedule("adam"), 5, always(path))
    again, fails = noisy(stop_at=1)
    assert train(again, fails, COUNT, schedule("adam"), 5, always(path)) == log
    same(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"noise" * 99])
def test_a_damaged_checkpoint_is_ignored(tmp_path, uninterrupted, damage):
    path = tmp_path / "killed.pt"
    model, objective = noisy(stop_at=6)
    with pytest.raises(Stop):
        train(model, objective, COUNT, schedule("adam"), 5, always(path))
    path.write_bytes(damage(path.read_bytes()))
    model, objective = noisy()
    log = train(model, objective, COUNT, schedule("adam"), 5, always(path))
    expected_log, weights, checkpoint = uninterrupted("adam")
    assert log == expected_log
    same(model.state_dict(), weights)
    same(torch.load(path, weights_only=True), checkpoint)


def test_each_checkpoint_is_told(tmp_path):
    model, objective = noisy()
    path, told = tmp_path / "training.pt", []
    train(model, objective, COUNT, schedule("adam"), 5, always(path, saved=lambda: told.append(path.exists())))
    assert told == [True] * 11


def test_checkpoints_are_written_now_and_then_only(tmp_path):
    model, objective = noisy()
    train(model, objective, COUNT, schedule("adam"), 5, Watch(checkpoint=tmp_path / "rare.pt", every_s=1000.0))
    assert not (tmp_path / "rare.pt").exists()


def test_checkpoints_change_nothing(tmp_path):
    plain, objective = noisy()
    train(plain, objective, COUNT, schedule("sgd"), 5)
    watched, objective = noisy()
    train(watched, objective, COUNT, schedule("sgd"), 5, always(tmp_path / "every.pt"))
    same(watched.state_dict(), plain.state_dict())


class Renewed(Schedule):
    """Begins anew with its third step."""

    def renews(self, step):
        return step == 2


def test_a_renewed_optimiser_steps_as_a_new_one():
    """Adam's first step is as long as the learning rate, whatever the gradient; later ones follow the moments."""
    gradients, taken = [1.0, -1.0, 1e-3], {}
    for kind in (Schedule, Renewed):
        weight = nn.Parameter(torch.zeros(1))
        modules, moved = nn.ParameterList([weight]), []

        def objective(rows, generator, weight=weight, moved=moved):
            moved.append(weight.item())
            return {"slope": gradients[len(moved) - 1] * weight.sum()}

        train(modules, objective, 4, kind(3, 2, "adam", 0.1, weight_decay=0.0), 0)
        taken[kind] = weight.item() - moved[-1]
    assert taken[Renewed] == pytest.approx(-0.1, rel=1e-3)
    assert abs(taken[Schedule]) < 0.02
