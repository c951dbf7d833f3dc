"""Obeying the schedule: what happens to the student when a stage begins.

The one piece of code behind both the Keras callback and the custom loop.
"""

from collections.abc import Callable
from typing import Any

from bitat_tf.binarize import float_twin
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import binary_units
from bitat_tf.records import from_mapping, to_mapping
from bitat_tf.results import CalibrationResult, StageRecord
from bitat_tf.train.calibrate import Progress, calibrate
from bitat_tf.train.schedule import Schedule, Stage
from bitat_tf.train.transfer import copy_float_weights


class Stages:
    """Brings a student into the stage that a step belongs to.

    Units that become binary are calibrated on the student as it then is, if a teacher and
    calibration data are given, and only switched otherwise; units that are binary from the
    start are taken as calibrated. Where units are binary before
    their time, the whole student starts again from the teacher's float weights.

    Args:
        student: functional model with binary units.
        schedule: over the student's units.
        teacher: its float twin.
        calibration_data: batches of images for `calibrate`.
        config: of the calibration.
        on_stage: told of each stage as it is entered.

    Attributes:
        progress: of the stages' calibrations, as `calibrate` takes it.
        on_calibration: told of each of their results, before the stage is entered.
        entered: records of the stages entered so far.
        calibrations: their calibration results.

    Raises:
        ValueError: when the schedule's units are not the student's.
    """

    def __init__(
        self,
        student: Any,
        schedule: Schedule,
        *,
        teacher: Any = None,
        calibration_data: Any = None,
        config: CalibrationConfig | None = None,
        on_stage: Callable[[StageRecord], None] | None = None,
    ) -> None:
        units = binary_units(student)
        if {unit.name for unit in units} != set(schedule.units):
            raise ValueError(
                "The schedule was made for other units than the student's. Received: "
                f"{list(schedule.units)}; the student has {[unit.name for unit in units]}"
            )
        self.student = student
        self.schedule = schedule
        self.teacher = None if teacher is None else float_twin(student, teacher)
        self.calibration_data = calibration_data
        self.config = config
        self.on_stage = on_stage
        self.progress: Progress | None = None
        self.on_calibration: Callable[[CalibrationResult], None] | None = None
        self.entered: list[StageRecord] = []
        self.calibrations: list[CalibrationResult] = []
        self._units = {unit.name: unit for unit in units}
        self._current: Stage | None = None

    def before_step(self, step: int) -> None:
        """Enter the stage of optimizer step `step`, if it is another than the current one.

        Args:
            step: of the optimizer, from 0.
        """
        stage = self.schedule.stage_at(step)
        if self._current is not None and stage.index == self._current.index:
            return
        self._current = stage
        self._enter(stage)
        record = StageRecord(step, len(stage.active), len(self._units))
        self.entered.append(record)
        if self.on_stage is not None:
            self.on_stage(record)

    def state(self) -> dict[str, Any]:
        """The stages entered, and what was measured on the way; see `train.keeper`."""
        return to_mapping({"entered": self.entered, "calibrations": self.calibrations})

    def restore(self, state: dict[str, Any]) -> None:
        """Be in the stage of the one that gave `state`; the student's variables already are.

        Args:
            state: of its `state` method, also after a way through JSON.
        """
        self.entered = [from_mapping(StageRecord, record) for record in state["entered"]]
        self.calibrations = [from_mapping(CalibrationResult, c) for c in state["calibrations"]]
        self._current = self.schedule.stage_at(self.entered[-1].step) if self.entered else None

    def _enter(self, stage: Stage) -> None:
        early = [u for u in self._units.values() if u.active and u.name not in stage.active]
        if early:
            self._start_from_float(early)
        late = [name for name in stage.active if not self._units[name].active]
        if late and self.teacher is not None and self.calibration_data is not None:
            self.calibrations.append(
                calibrate(
                    self.student,
                    self.teacher,
                    self.calibration_data,
                    config=self.config,
                    units=late,
                    progress=self.progress,
                )
            )
            if self.on_calibration is not None:
                self.on_calibration(self.calibrations[-1])
        for name in late:
            self._units[name].activate(True)

    def _start_from_float(self, early: list[Any]) -> None:
        if self.teacher is None:
            raise ValueError(
                "A progressive schedule starts from a float network, but these units are binary "
                f"already: {[unit.name for unit in early]}. Give the teacher, whose weights they "
                "then start from, or use progressive_steps=0."
            )
        copy_float_weights(self.student, self.teacher)
        for unit in self._units.values():
            unit.activate(False)
