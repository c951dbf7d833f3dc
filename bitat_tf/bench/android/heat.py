"""Waiting out heat: a hot phone lowers its clock, and a figure taken then says so of nothing else.

What to do is a pure decision; the loop around it gets its clock from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bitat_tf.android_results import HeatRecord

Decision = Literal["go", "wait", "give_up"]


@dataclass(frozen=True)
class HeatLimits:
    """When a phone is too hot to be measured, and how long to wait.

    Args:
        cool_below: degrees Celsius of the skin sensor or else the battery, below which a run may
            start. 36 is this project's choice: warmer than a phone at rest, and below where phones
            commonly begin to throttle.
        max_wait_seconds: after which the run starts nevertheless, and is marked hot; 0 never
            waits.
        poll_seconds: between two readings.

    Raises:
        ValueError: on a number out of range.
    """

    cool_below: float = 36.0
    max_wait_seconds: float = 300.0
    poll_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.cool_below < 100:
            raise ValueError(
                "`cool_below` must be degrees Celsius between 0 and 100. "
                f"Received: {self.cool_below!r}"
            )
        if not 0 <= self.max_wait_seconds < float("inf"):
            raise ValueError(
                "`max_wait_seconds` must be at least 0 and finite. "
                f"Received: {self.max_wait_seconds!r}"
            )
        if not 0 < self.poll_seconds < float("inf"):
            raise ValueError(
                f"`poll_seconds` must be positive and finite. Received: {self.poll_seconds!r}"
            )


@dataclass(frozen=True)
class Waited:
    """The reading with which a run starts, and what it took; `hot` where waiting was given up."""

    heat: HeatRecord
    seconds: float
    hot: bool


def too_hot(heat: HeatRecord, limits: HeatLimits) -> bool:
    """Whether the phone throttles already, or its temperature has reached the limit."""
    throttles = heat.status is not None and heat.status > 0
    return throttles or (heat.celsius is not None and heat.celsius >= limits.cool_below)


def decide(heat: HeatRecord, waited_seconds: float, limits: HeatLimits) -> Decision:
    """What to do at this temperature after so long a wait."""
    if not too_hot(heat, limits):
        return "go"
    return "wait" if waited_seconds < limits.max_wait_seconds else "give_up"


def cool_down(
    read: Callable[[], HeatRecord],
    limits: HeatLimits,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Waited:
    """Wait until the phone is cool, or the limit has passed.

    Args:
        read: the phone's present heat.
        limits: when to go on.
        clock: seconds, e.g. `time.monotonic`.
        sleep: e.g. `time.sleep`.
    """
    heat = read()
    start, waited = clock(), 0.0
    while (decision := decide(heat, waited, limits)) == "wait":
        sleep(min(limits.poll_seconds, limits.max_wait_seconds - waited))
        heat = read()
        waited = clock() - start
    return Waited(heat, round(waited, 1), decision == "give_up")
