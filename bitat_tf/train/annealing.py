"""Obeying a method: what the baselines change in the student before each step.

The counterpart of `train.stages` for methods without a calibration: both trainers ask it before
every step, and what it does is a function of the step alone.
"""

from collections.abc import Callable
from typing import Any

from bitat_tf._keras import tf
from bitat_tf.graph import binary_units
from bitat_tf.quantizers import lq
from bitat_tf.records import check, from_mapping, to_mapping
from bitat_tf.results import StageRecord
from bitat_tf.train.methods import Method


class Annealing:
    """Brings a student into the state that a method has it in at a step.

    Args:
        student: functional model with binary units, built with `method.layer_options`, that
            holds the float weights it starts from (`transfer.copy_float_weights`).
        method: see `train.methods`.
        total_steps: length of the training in optimizer steps.
        on_stage: told when the number of binary units changes.

    Attributes:
        entered: what `on_stage` was told so far.
        weight_decay: variable for `Distilled`; None for a method without weight decay.

    Raises:
        ValueError: when the student has no binary unit, or other quantizers than the method's.
    """

    def __init__(
        self,
        student: Any,
        method: Method,
        total_steps: int,
        *,
        on_stage: Callable[[StageRecord], None] | None = None,
    ) -> None:
        check(total_steps >= 1, "total_steps", "at least 1", total_steps)
        self.method = method
        self.total_steps = total_steps
        self.on_stage = on_stage
        self.entered: list[StageRecord] = []
        self.weight_decay = tf.Variable(0.0, trainable=False) if method.decays_weights else None
        self._units = binary_units(student)
        self._check_quantizers(student)
        self._progress: dict[str, float] = {}

    def before_step(self, step: int) -> None:
        """Set switches, progress and weight decay for optimizer step `step`.

        Args:
            step: of the optimizer, from 0.
        """
        share = min(1.0, (step + 1) / self.total_steps)
        if self.weight_decay is not None:
            self.weight_decay.assign(self.method.weight_decay(share))
        for position, unit in enumerate(self._units):
            progress = self.method.progress(share, position, len(self._units))
            # Most units stay as they are from one step to the next.
            if self._progress.get(unit.name) != progress:
                self._progress[unit.name] = progress
                unit.activate(progress > 0 or not self.method.gradual)
                for quantizer in unit.annealed:
                    quantizer.progress.assign(progress)
        self._record(step)

    def state(self) -> dict[str, Any]:
        """The stages entered; all else is a function of the step (see `train.keeper`)."""
        return to_mapping({"entered": self.entered})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the one that gave `state`.

        Args:
            state: of its `state` method, also after a way through JSON.
        """
        self.entered = [from_mapping(StageRecord, record) for record in state["entered"]]

    def _record(self, step: int) -> None:
        binary = sum(unit.binary for unit in self._units)
        if self.entered and self.entered[-1].binary_units == binary:
            return
        self.entered.append(StageRecord(step, binary, len(self._units)))
        if self.on_stage is not None:
            self.on_stage(self.entered[-1])

    def _check_quantizers(self, student: Any) -> None:
        check(len(self._units) > 0, "student", "a model with binary units", student.name)
        wanted = self.method.layer_options
        for unit in self._units:
            layers = {unit.sign: wanted["activation_quantizer"]}
            layers.update(dict.fromkeys(unit.convolutions, wanted["kernel_quantizer"]))
            for layer, name in layers.items():
                quantizer = getattr(layer, "kernel_quantizer", None) or layer.quantizer
                if not isinstance(quantizer, type(lq.quantizers.get(name))):
                    raise ValueError(
                        f"Layer {layer.name!r} has another quantizer than method "
                        f"{self.method.name!r} needs ({name}). Received: "
                        f"{type(quantizer).__name__}. Build the student with the method's "
                        "`layer_options`."
                    )
