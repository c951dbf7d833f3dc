"""What a training tells the outside: progress with an estimate, curves, TensorBoard, alarms.

Both trainers report every step here and know nothing of terminals or files.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bitat_tf._keras import tf
from bitat_tf.results import StageRecord, TrainingPoint
from bitat_tf.train.checkpoint import Checkpoint


class TrainingError(RuntimeError):
    """A training that cannot go on."""


class Monitor:
    """Watches one training; a context manager.

    Args:
        title: what is trained, for the progress display.
        steps: optimizer steps in all.
        log_steps: steps between points of the curve.
        log_dir: where TensorBoard scalars go; None writes none.
        console: where progress is shown: a live bar on a terminal, else one plain line per
            logged point. None shows nothing.
        validate: gives the validation accuracy at a logged point; may be None.
        checkpoint: saved at every logged point at which all is finite; may be None.

    Attributes:
        points: the curve so far.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        *,
        log_steps: int = 200,
        log_dir: Path | None = None,
        console: Console | None = None,
        validate: Callable[[], float] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.title = title
        self.steps = steps
        self.log_steps = log_steps
        self.points: list[TrainingPoint] = []
        self._validate = validate
        self._checkpoint = checkpoint
        self._console = console
        self._writer = tf.summary.create_file_writer(str(log_dir)) if log_dir else None
        self._sums = [0.0, 0.0, 0]
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(title, total=steps, loss=0.0, accuracy=0.0)

    def __enter__(self) -> "Monitor":
        self._started = time.perf_counter()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

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
            raise self._failure(f"The loss became {loss} at step {step}.")
        self._sums = [self._sums[0] + loss, self._sums[1] + accuracy, self._sums[2] + 1]
        if self._bar is not None:
            self._bar.update(self._task, advance=1, loss=loss, accuracy=accuracy)
        done = step + 1
        if done % self.log_steps == 0 or done == self.steps:
            self._log(done)

    def stage(self, record: StageRecord) -> None:
        """Take note of a stage of the schedule."""
        self._scalar("schedule/binary_units", record.binary_units, record.step)
        if record.binary_units < record.units or record.step:
            self._say(f"step {record.step}: {record.binary_units}/{record.units} units binary")

    def _log(self, done: int) -> None:
        loss, accuracy, count = self._sums
        self._sums = [0.0, 0.0, 0]
        try:
            validation = self._validate() if self._validate is not None else None
            if self._checkpoint is not None:
                self._checkpoint.save(done)
        except FloatingPointError as err:
            raise self._failure(f"At logged step {done}: {err}") from err
        point = TrainingPoint(done, loss / count, accuracy / count, validation)
        self.points.append(point)
        self._scalar("train/loss", point.loss, done)
        self._scalar("train/accuracy", point.accuracy, done)
        text = f"step {done}/{self.steps}  loss {point.loss:.3f}  accuracy {point.accuracy:.1%}"
        if validation is not None:
            self._scalar("validation/accuracy", validation, done)
            text += f"  validation {validation:.1%}"
        elapsed = time.perf_counter() - self._started
        left = elapsed / done * (self.steps - done)
        self._say(f"{text}  left {left:.0f} s")

    def _failure(self, reason: str) -> TrainingError:
        kept = f" {self._checkpoint}" if self._checkpoint is not None else ""
        return TrainingError(
            f"{self.title}: {reason}{kept} Lower the learning rate, or check the images for NaN."
        )

    def _scalar(self, name: str, value: Any, step: int) -> None:
        if self._writer is not None:
            with self._writer.as_default():
                tf.summary.scalar(name, value, step=step)

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True)
