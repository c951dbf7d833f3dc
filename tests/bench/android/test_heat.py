"""Waiting for a hot phone, by a clock that only sleeping moves."""

import pytest

from bitat_tf.android_results import HeatRecord
from bitat_tf.bench.android import HeatLimits
from bitat_tf.bench.android.heat import cool_down, decide


@pytest.mark.parametrize(
    ("heat", "waited", "decision"),
    [
        (HeatRecord(35.9, "skin", 0), 0, "go"),
        (HeatRecord(36.0, "skin", 0), 0, "wait"),
        (HeatRecord(30.0, "skin", 1), 10, "wait"),  # throttles, whatever the sensor says
        (HeatRecord(50.0, "battery", None), 300, "give_up"),
        (HeatRecord(), 0, "go"),  # a phone that tells nothing
    ],
)
def test_what_to_do_about_heat(heat, waited, decision):
    assert decide(heat, waited, HeatLimits()) == decision


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def test_a_hot_phone_is_waited_for_until_it_is_cool():
    clock, values = Clock(), iter([45, 40, 37, 35])
    waited = cool_down(
        lambda: HeatRecord(next(values), "skin", 0), HeatLimits(), clock=clock, sleep=clock.sleep
    )
    assert (waited.heat.celsius, waited.seconds, waited.hot) == (35, 15.0, False)


def test_a_phone_that_stays_hot_is_measured_after_the_limit_and_marked():
    clock = Clock()
    limits = HeatLimits(max_wait_seconds=12, poll_seconds=5)
    waited = cool_down(lambda: HeatRecord(45, "skin", 2), limits, clock=clock, sleep=clock.sleep)
    assert (waited.seconds, waited.hot) == (12.0, True)
    assert cool_down(
        lambda: HeatRecord(45, "skin", 2),
        HeatLimits(max_wait_seconds=0),
        clock=clock,
        sleep=clock.sleep,
    ).hot


@pytest.mark.parametrize(
    "broken", [{"cool_below": 0}, {"max_wait_seconds": -1}, {"poll_seconds": 0}]
)
def test_limits_of_heat_that_cannot_be_are_refused(broken):
    (name,) = broken
    with pytest.raises(ValueError, match=f"`{name}` must"):
        HeatLimits(**broken)
