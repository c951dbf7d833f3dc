"""When which layers become binary: a pure function of the step.

A schedule knows nothing of Keras. The callback and the custom loop both ask it before every
step and obey (`bitat_tf.train.stages`), so they run the same stages at the same steps.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bitat_tf.config import Order
from bitat_tf.records import check


@dataclass(frozen=True)
class Stage:
    """A stretch of steps with the same layers binary.

    Attributes:
        index: from 0.
        start: first step of the stage.
        active: names of the units that are binary in it, in the order they became so.
    """

    index: int
    start: int
    active: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """Turns units binary one after the other, evenly over the first steps.

    Args:
        units: names of the binary units, bottom to top (`graph.binary_units`).
        total_steps: length of the training in optimizer steps.
        progressive_steps: steps over which the units become binary, the first at step 0; 0
            makes all of them binary at step 0.
        order: `"bottom_up"` (the paper's), `"top_down"` or `"random"`.
        seed: of the random order.

    Raises:
        ValueError: when a value is out of range, or there is no unit.

    Examples:
        >>> schedule = Schedule(("a", "b"), total_steps=100, progressive_steps=50)
        >>> [(stage.start, stage.active) for stage in schedule.stages]
        [(0, ('a',)), (25, ('a', 'b'))]
    """

    units: tuple[str, ...]
    total_steps: int
    progressive_steps: int = 0
    order: Order = "bottom_up"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units))
        check(len(self.units) > 0, "units", "at least one unit name", self.units)
        check(self.total_steps >= 1, "total_steps", "at least 1", self.total_steps)
        check(
            0 <= self.progressive_steps < self.total_steps,
            "progressive_steps",
            f"at least 0 and below total_steps={self.total_steps}",
            self.progressive_steps,
        )
        check(
            self.order in ("bottom_up", "top_down", "random"),
            "order",
            "'bottom_up', 'top_down' or 'random'",
            self.order,
        )

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, first to last."""
        ordered = self._ordered()
        starts: dict[int, int] = {}
        for position in range(len(ordered)):
            # Units that start at the same step share a stage.
            starts[position * self.progressive_steps // len(ordered)] = position + 1
        return tuple(
            Stage(index, start, tuple(ordered[:count]))
            for index, (start, count) in enumerate(starts.items())
        )

    def stage_at(self, step: int) -> Stage:
        """The stage that optimizer step `step` (from 0) belongs to.

        Args:
            step: from 0.

        Returns:
            The stage.

        Raises:
            ValueError: when `step` is negative.
        """
        check(step >= 0, "step", "at least 0", step)
        return self.stages[bisect_right([stage.start for stage in self.stages], step) - 1]

    def _ordered(self) -> Sequence[str]:
        if self.order == "top_down":
            return self.units[::-1]
        if self.order == "random":
            return random.Random(self.seed).sample(self.units, len(self.units))
        return self.units
