import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitat_tf.train.schedule import Schedule

UNITS = ("a", "b", "c", "d")


def test_without_progressive_steps_all_are_binary_at_once():
    schedule = Schedule(UNITS, total_steps=10)
    assert [stage.start for stage in schedule.stages] == [0]
    assert schedule.stage_at(0).active == UNITS
    assert schedule.stage_at(9).active == UNITS


def test_bottom_up_turns_one_unit_after_the_other():
    schedule = Schedule(UNITS, total_steps=100, progressive_steps=40)
    assert [(s.start, s.active) for s in schedule.stages] == [
        (0, UNITS[:1]),
        (10, UNITS[:2]),
        (20, UNITS[:3]),
        (30, UNITS),
    ]
    assert schedule.stage_at(29).active == UNITS[:3]
    assert schedule.stage_at(30).active == UNITS


def test_top_down_is_the_reverse():
    top_down = Schedule(UNITS, 100, 40, order="top_down")
    assert top_down.stages[0].active == ("d",)
    shuffled = [
        Schedule(UNITS, 100, 40, order="random", seed=s).stages[-1].active for s in (1, 1, 2)
    ]
    assert shuffled[0] == shuffled[1]
    assert sorted(shuffled[0]) == sorted(UNITS)
    assert any(
        Schedule(UNITS, 100, 40, order="random", seed=s).stages[-1].active != UNITS
        for s in range(5)
    )


@given(
    st.integers(1, 20),
    st.integers(1, 500),
    st.floats(0, 0.999),
    st.sampled_from(["bottom_up", "top_down", "random"]),
)
def test_a_stage_never_loses_a_unit_and_the_last_has_all(count, steps, share, order):
    units = tuple(f"u{i}" for i in range(count))
    schedule = Schedule(units, steps, int(steps * share), order)
    stages = schedule.stages
    assert stages[0].start == 0
    assert set(stages[-1].active) == set(units)
    for before, after in itertools.pairwise(stages):
        assert before.start < after.start < steps
        assert set(before.active) < set(after.active)
    for step in range(steps):
        stage = schedule.stage_at(step)
        assert stage.start <= step
        assert stage is stages[-1] or step < stages[stage.index + 1].start


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": ()}, "at least one unit"),
        ({"total_steps": 0}, "`total_steps` must be at least 1"),
        ({"progressive_steps": 10}, "below total_steps=10"),
        ({"order": "sideways"}, "Received: 'sideways'"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"units": UNITS, "total_steps": 10, **arguments})


def test_a_step_before_the_first_is_refused():
    with pytest.raises(ValueError, match="`step`"):
        Schedule(UNITS, 10).stage_at(-1)
