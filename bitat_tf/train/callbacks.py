"""`model.fit` under a schedule."""

from collections.abc import Sequence
from typing import Any

from bitat_tf._keras import keras
from bitat_tf.config import CalibrationConfig
from bitat_tf.train.loop import BeforeStep, InTurn
from bitat_tf.train.schedule import Schedule
from bitat_tf.train.stages import Stages


class BitatCallback(keras.callbacks.Callback):
    """Runs a schedule's stages within `model.fit`.

    The step is the optimizer's own counter, so a resumed training goes on where it was.

    Args:
        schedule: over the model's binary units; its `total_steps` is not enforced here.
        teacher, calibration_data, config: as in `train.stages.Stages`; needed by progressive
            schedules only.
        also: asked before every step after the stages, such as `Tracking` and `Release`.

    Attributes:
        stages: the `Stages` it obeys, with records of what was entered and calibrated; None before
            `fit`.

    Examples:
        >>> student.fit(train, callbacks=[BitatCallback(schedule)])  # doctest: +SKIP
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        teacher: Any = None,
        calibration_data: Any = None,
        config: CalibrationConfig | None = None,
        also: Sequence[BeforeStep] = (),
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.also = tuple(also)
        self.stages: Stages | None = None
        self._arguments = {
            "teacher": teacher,
            "calibration_data": calibration_data,
            "config": config,
        }

    def on_train_begin(self, logs: Any = None) -> None:
        """Bind to the model; a `Distilled` model's student is what the schedule is about."""
        student = getattr(self.model, "student", self.model)
        self.stages = Stages(student, self.schedule, **self._arguments)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Enter a stage when its step has come, and ask the others."""
        if self.stages is not None:
            InTurn(self.stages, *self.also).before_step(
                int(self.model.optimizer.iterations.numpy())
            )
