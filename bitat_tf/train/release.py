"""When which share of a kernel's directions is 1-bit: a pure function of the step, and obeying it.

From the step at which a unit becomes binary, its convolutions' kernels are released to 1 bit
direction after direction, in the order of the importance that their transforms hold at that
step (`bitat_tf.importance`).
"""

from typing import Any

from bitat_tf.config import ReleaseOrder
from bitat_tf.graph import binary_units
from bitat_tf.importance import ReleaseQuantizer
from bitat_tf.records import check
from bitat_tf.train.schedule import Schedule


def release_quantizer(order: ReleaseOrder) -> str:
    """Name of the kernel quantizer that a student released in this order is built with."""
    return f"release_{order}"


def released_share(step: int, start: int, release_steps: int) -> float:
    """Share of the directions that are 1-bit in optimizer step `step`.

    It rises evenly from 0 at `start` to 1 at `start + release_steps`, and stays there.

    Args:
        step: from 0.
        start: step at which the release begins.
        release_steps: at least 1.
    """
    return min(1.0, max(0.0, (step - start) / release_steps))


class Release:
    """Sets the released share of every binary kernel before a step.

    Asked after `Stages`: what becomes binary is calibrated with kernels of +-1, and released
    from there.

    Args:
        student: functional model with binary units whose kernels have a release quantizer.
        schedule: over the student's units: when each becomes binary.
        release_steps: steps over which all directions of a kernel are released; the training
            must go on after the last has been.

    Raises:
        ValueError: when the schedule ends before the release, or a kernel has another quantizer.
    """

    def __init__(self, student: Any, schedule: Schedule, release_steps: int) -> None:
        check(release_steps >= 1, "release_steps", "at least 1", release_steps)
        self.release_steps = release_steps
        starts = {name: stage.start for stage in reversed(schedule.stages) for name in stage.active}
        check(
            max(starts.values()) + release_steps < schedule.total_steps,
            "release_steps",
            f"short enough to end before total_steps={schedule.total_steps}",
            release_steps,
        )
        self._kernels: list[tuple[int, Any]] = []
        for unit in binary_units(student):
            for convolution in unit.convolutions:
                quantizer = convolution.kernel_quantizer
                if not isinstance(quantizer, ReleaseQuantizer):
                    raise ValueError(
                        f"Layer {convolution.name!r} was not built for a release. Received: "
                        f"{type(quantizer).__name__}. Build the student with "
                        'kernel_quantizer="release_most_first" or "release_least_first".'
                    )
                self._kernels.append((starts[unit.name], quantizer))
        self._shares: dict[int, float] = {}

    def before_step(self, step: int) -> None:
        """Set the share of optimizer step `step`, in the units that are binary by then.

        Args:
            step: of the optimizer, from 0.
        """
        for index, (start, quantizer) in enumerate(self._kernels):
            share = released_share(step, start, self.release_steps)
            # After its release a kernel stays as it is.
            if step >= start and self._shares.get(index) != share:
                self._shares[index] = share
                quantizer.progress.assign(share)
