import numpy as np
import pytest

from distill_lib.tools.bench.pairs import Budget, Side, ratio_of, rounds


def recorded(calls, name, seconds):
    """A side on a fake clock, `seconds` a step."""

    def run(steps):
        calls.append((name, steps))
        return seconds

    return run


def test_sides_take_turns_and_the_order_turns_round():
    calls = []
    times = rounds([Side(recorded(calls, "a", 3.0)), Side(recorded(calls, "b", 1.5))], Budget(1.0, 3))
    assert [name for name, _ in calls] == list("ababbaab")  # the first two warm up
    np.testing.assert_array_equal(times, [[3.0, 1.5]] * 3)


def test_three_sides_are_turned_round_too():
    calls = []
    rounds([Side(recorded(calls, name, 1.0)) for name in "abc"], Budget(1.0, 2))
    assert "".join(name for name, _ in calls) == "abc" + "abc" + "cba"


def test_each_side_gets_as_many_steps_as_fit_its_share_of_the_time():
    calls = []
    sides = [Side(recorded(calls, "slow", 2.0), least=3), Side(recorded(calls, "fast", 0.25), least=3)]
    rounds(sides, Budget(40.0, 4))  # 5 seconds a side and round
    steps = {name: {n for other, n in calls[2:] if other == name} for name in ("slow", "fast")}
    assert steps == {"slow": {3}, "fast": {20}}  # 2 steps would fit, 3 is the least
    assert calls[:2] == [("slow", 3), ("fast", 3)]


def test_the_ratio_is_the_median_of_the_pairs_quotients_with_quartiles():
    first, second = [2.0, 8.0, 6.0, 4.0, 10.0], [1.0, 2.0, 2.0, 2.0, 2.0]  # quotients 2, 4, 3, 2, 5
    row = ratio_of("x", np.array([first, second]).T, "a / b")
    assert (row.name, row.low, row.ratio, row.high, row.pairs, row.unit) == ("x", 2.0, 3.0, 4.0, 5, "a / b")


def test_a_machine_that_slows_down_leaves_the_ratio_alone():
    slower = np.linspace(1, 9, 7)
    row = ratio_of("x", np.stack([3 * slower, slower], 1), "")
    assert (row.low, row.ratio, row.high) == pytest.approx((3, 3, 3))


def test_the_scale_turns_seconds_into_work():
    row = ratio_of("share", np.array([[1.0, 4.0]]), "", scale=2.0)  # twice the work in four times the time
    assert row.ratio == 0.5
