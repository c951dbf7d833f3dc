"""What a training tells the outside: the curve, and alarms.

Both trainers report every step here and know nothing of terminals or files. What a person sees
is `train.display`'s, what TensorBoard shows `train.events`'.
"""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console

from bitat_tf.records import from_mapping, to_mapping
from bitat_tf.results import CalibrationResult, StageRecord, TrainingPoint
from bitat_tf.train.checkpoint import Checkpoint
from bitat_tf.train.display import Display
from bitat_tf.train.events import Events


class TrainingError(RuntimeError):
    """A training that cannot go on."""


class Monitor:
    """Watches one training; a context manager.

    Args:
        title: what is trained, for the progress display.
        steps: optimizer steps in all.
        log_steps: steps between points of the curve.
        batch_size: images per step, for the images per second; None shows none.
        events: TensorBoard's; closed at the end. None writes none.
        console: where progress is shown: a live bar on a terminal, else one plain line per
            logged point. None shows nothing.
        validate: gives the validation accuracy at a logged point; may be None.
        checkpoint: saved at every logged point at which all is finite; may be None.
        on_point: told at every logged point, and when an interrupted training goes on, with the
            images per second where they are known; may be None.

    Attributes:
        points: the curve so far.
        done: optimizer steps so far.
        stage_text: the stage of the schedule, in short; empty without one.
        seconds: wall time so far, less what came before an interruption and was lost.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        *,
        log_steps: int = 200,
        batch_size: int | None = None,
        events: Events | None = None,
        console: Console | None = None,
        validate: Callable[[], float] | None = None,
        checkpoint: Checkpoint | None = None,
        on_point: Callable[["Monitor", float | None], None] | None = None,
    ) -> None:
        self.title = title
        self.steps = steps
        self.log_steps = log_steps
        self.points: list[TrainingPoint] = []
        self._batch_size = batch_size
        self._events = events
        self._validate = validate
        self._checkpoint = checkpoint
        self._on_point = on_point
        self._display = Display(title, steps, console)
        self._sums = [0.0, 0.0, 0]
        self.done = 0
        self.stage_text = ""
        self._started = time.perf_counter()
        self._restart_clock()

    def __enter__(self) -> "Monitor":
        self._started = time.perf_counter()
        self._restart_clock()
        self._display.start()
        return self

    @property
    def seconds(self) -> float:
        """Of this training, in all the processes that it ran in."""
        return time.perf_counter() - self._started

    @property
    def seconds_left(self) -> float:
        """Until the end, if it goes on as it went so far."""
        return self.seconds / max(1, self.done) * (self.steps - self.done)

    @property
    def images_per_second(self) -> float | None:
        """Trained since the last logged point or stage; None where it is not known."""
        seconds = time.perf_counter() - self._clock
        if self._batch_size is None or self.done <= self._clock_done or seconds <= 0:
            return None
        return self._batch_size * (self.done - self._clock_done) / seconds

    def state(self) -> dict[str, Any]:
        """The curve, the sums since its last point, and the time; see `train.keeper`."""
        return {
            "points": to_mapping(self.points),
            "sums": self._sums,
            "seconds": self.seconds,
            "weights": None if self._checkpoint is None else self._checkpoint.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the monitor that gave `state`.

        Args:
            state: of its `state` method, also after a way through JSON.
        """
        self.points = [from_mapping(TrainingPoint, point) for point in state["points"]]
        self._sums = list(state["sums"])
        self._started = time.perf_counter() - state["seconds"]
        if self._checkpoint is not None:
            self._checkpoint.restore(state["weights"])

    def resumed(self, done: int, stage: StageRecord | None = None) -> None:
        """Show that the training goes on after `done` steps.

        Args:
            done: optimizer steps taken before.
            stage: of the schedule that it is in; None without one.
        """
        self.done = done
        self._restart_clock()
        self._display.goes_on(done)
        if stage is not None:
            self._show_stage(stage)
        if self._events is not None:
            self._events.resumed(bool(self.points) and self.points[-1].step == done)
        if self._on_point is not None:
            self._on_point(self, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()
        if self._events is not None:
            self._events.close()

    def step(self, step: int, loss: float, accuracy: float) -> None:
        """Take note of one finished step.

        Args:
            step: its index, from 0.
            loss: of its batch.
            accuracy: of its batch, in [0, 1].

        Raises:
            TrainingError: when the loss is not finite, or at a logged point the model.
        """
        if not math.isfinite(loss):
            raise self.failure(f"The loss became {loss} at step {step}.")
        self._sums = [self._sums[0] + loss, self._sums[1] + accuracy, self._sums[2] + 1]
        self.done = step + 1
        self._display.step(self.done, loss, accuracy, self.images_per_second, self.seconds_left)
        if self.done % self.log_steps == 0 or self.done == self.steps:
            self._log(self.done)

    def stage(self, record: StageRecord) -> None:
        """Take note of a stage of the schedule.

        Args:
            record: of the stage as it was entered.
        """
        if self._events is not None:
            self._events.stage(record)
        self._show_stage(record)
        if record.binary_units < record.units or record.step:
            self.say(f"step {record.step}: {record.binary_units}/{record.units} units binary")
        self._restart_clock()

    def calibrating(self, name: str, done: int, total: int) -> None:
        """Show the layer that a stage's calibration is at; its `progress`.

        Args:
            name: of the layer.
            done: layers that are calibrated.
            total: layers of the stage.
        """
        self._display.stage(f"calibrating {done}/{total} {name}")

    def calibrated(self, result: CalibrationResult) -> None:
        """Take note of a stage's calibration.

        Args:
            result: of it.
        """
        if self._events is not None:
            self._events.calibration(result, self.done)

    def _log(self, done: int) -> None:
        loss, accuracy, count = self._sums
        self._sums = [0.0, 0.0, 0]
        speed = self.images_per_second
        try:
            validation = self._validate() if self._validate is not None else None
            if self._checkpoint is not None:
                self._checkpoint.save(done, validation)
        except FloatingPointError as err:
            raise self.failure(f"At logged step {done}: {err}") from err
        point = TrainingPoint(done, loss / count, accuracy / count, validation)
        self.points.append(point)
        self._display.point(point, speed, self.seconds_left)
        if self._events is not None:
            self._events.point(point, speed)
        if self._on_point is not None:
            self._on_point(self, speed)
        self._restart_clock()

    def failure(self, reason: str) -> TrainingError:
        """An error to raise about numbers that are not finite.

        Args:
            reason: what is not finite, a sentence.

        Returns:
            The error, to be raised by the caller.
        """
        kept = f" {self._checkpoint}" if self._checkpoint is not None else ""
        return TrainingError(
            f"{self.title}: {reason}{kept} Lower the learning rate, or check the images for NaN."
        )

    def _show_stage(self, record: StageRecord) -> None:
        self.stage_text = f"{record.binary_units}/{record.units} binary"
        self._display.stage(self.stage_text)

    def _restart_clock(self) -> None:
        """Count the images per second from here: what came before was no training step."""
        self._clock, self._clock_done = time.perf_counter(), self.done

    def say(self, text: str) -> None:
        """Show a line about this training.

        Args:
            text: without the title, which is put in front.
        """
        self._display.say(text)
