"""How far a run is, in a small file that other processes may read at any time.

`progress.json` lies in the run directory from the first phase that is carried out until the last is
over. It is replaced whole at every phase, every layer of the calibration phase and every logged
point, and not in between, so it costs nothing and may be a logged point behind. What it holds is
for the eye: a resumed run goes on from its checkpoints (`train.keeper`), never from here.

`RUN/so-far/` is where `bitat report` puts the report of such a run. The files of the run itself
belong to the process that carries it out.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bitat_tf import run_directory
from bitat_tf.files import write_text
from bitat_tf.records import check, from_json, to_json
from bitat_tf.results import RunResult, TrainingPoint
from bitat_tf.train.display import duration
from bitat_tf.train.monitor import Monitor


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        phases: names of all that it goes through, in order.
        phase: the one that it is in.
        updated: local time of this record.
        step: of the phase: the last logged optimizer step, or layers calibrated.
        steps: of the phase in all; 0 of one that has no steps.
        unit: what the steps are, `"step"` or `"layer"`.
        detail: what it is at, such as a layer's name or a stage; may be empty.
        points: the curve so far, of a phase that trains.
        seconds_left: of the phase, estimated at the last logged point; None where it is not known.
        images_per_second: None where it is not known.

    Raises:
        ValueError: when the phase is none of them.
    """

    phases: tuple[str, ...]
    phase: str
    updated: str
    step: int = 0
    steps: int = 0
    unit: str = "step"
    detail: str = ""
    points: tuple[TrainingPoint, ...] = ()
    seconds_left: float | None = None
    images_per_second: float | None = None

    def __post_init__(self) -> None:
        check(self.phase in self.phases, "phase", f"one of {self.phases}", self.phase)

    @property
    def over(self) -> tuple[str, ...]:
        """The phases that are behind it."""
        return self.phases[: self.phases.index(self.phase)]

    @property
    def ahead(self) -> tuple[str, ...]:
        """The phases that are to come."""
        return self.phases[self.phases.index(self.phase) + 1 :]


class Recorder:
    """Keeps the file of a run that goes on.

    Args:
        folder: of the run.
        phases: names of all phases, in order.
    """

    def __init__(self, folder: Path, phases: Sequence[str]) -> None:
        self._folder = folder
        self._now = Progress(tuple(phases), phases[0], "")

    def begin(self, phase: str) -> None:
        """A phase begins.

        Args:
            phase: its name.
        """
        self._write(Progress(self._now.phases, phase, ""))

    def layer(self, name: str, done: int, total: int) -> None:
        """A layer is calibrated; a `progress` of `train.calibrate`.

        Args:
            name: of the layer.
            done: layers calibrated, this one included.
            total: layers in all.
        """
        self._write(replace(self._now, step=done, steps=total, unit="layer", detail=name))

    def point(self, monitor: Monitor, images_per_second: float | None) -> None:
        """A training has logged a point, or goes on after an interruption.

        Args:
            monitor: of the training.
            images_per_second: None where it is not known.
        """
        self._write(
            replace(
                self._now,
                step=monitor.done,
                steps=monitor.steps,
                detail=monitor.stage_text,
                points=tuple(monitor.points),
                seconds_left=monitor.seconds_left,
                images_per_second=images_per_second,
            )
        )

    def end(self) -> None:
        """All phases are over: the run's own report takes the place of what was here."""
        clear(self._folder)

    def _write(self, now: Progress) -> None:
        self._now = replace(now, updated=datetime.now().isoformat(" ", "seconds"))
        write_text(run_directory.progress_path(self._folder), to_json(self._now))


def clear(folder: Path) -> None:
    """Remove what was there for others to read.

    Args:
        folder: of the run.
    """
    run_directory.progress_path(folder).unlink(missing_ok=True)
    shutil.rmtree(run_directory.so_far_path(folder), ignore_errors=True)


def read(folder: Path) -> Progress | None:
    """How far a run is.

    Args:
        folder: of the run.

    Returns:
        None where it is over, or none was carried out phase by phase.

    Raises:
        ValueError: when the file is damaged.
    """
    path = run_directory.progress_path(folder)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as err:
        raise ValueError(f"{path} is damaged: {err}. Go on with the run by --resume.") from err
    try:
        return from_json(Progress, text)
    except ValueError as err:
        raise ValueError(f"{path} is damaged: {err} Go on with the run by --resume.") from err


def describe(now: Progress, *, going_on: bool | None) -> str:
    """What a person wants to know of a run that is not over.

    Args:
        now: how far it is.
        going_on: whether a process is at work on it; None where that cannot be known.

    Returns:
        Lines without an end of line at the end.
    """
    at = f"{now.unit} {now.step:,} of {now.steps:,}" if now.steps else "begun"
    if now.detail:
        at += f" ({now.detail})"
    first = f"interrupted in {now.phase}: {at}" if going_on is False else f"{now.phase}: {at}"
    lines = [f"{first}, at {now.updated}"]
    if now.points:
        last = now.points[-1]
        figures = f"last point: step {last.step:,}  loss {last.loss:.3f}"
        figures += f"  accuracy {last.accuracy:.1%}"
        if last.validation_accuracy is not None:
            figures += f"  validation {last.validation_accuracy:.1%}"
        if now.images_per_second is not None:
            figures += f"  {now.images_per_second:,.0f} images/s"
        lines.append(figures)
    if going_on is not False and now.seconds_left is not None:
        lines.append(f"left of this phase: about {duration(now.seconds_left)}")
    lines.append(f"over: {', '.join(now.over) or 'nothing'}")
    lines.append(f"to come: {', '.join(now.ahead) or 'nothing'}")
    if going_on is None:
        lines.append("whether a process is at work on it cannot be seen on this file system")
    elif not going_on:
        lines.append("go on with --resume")
    return "\n".join(lines)


def result_so_far(result: RunResult, now: Progress) -> RunResult:
    """A run's figures with the curve of the training that is not over.

    Args:
        result: what the run has kept.
        now: how far it is.

    Returns:
        The same where no training goes on.
    """
    if now.phase == "teacher":
        return replace(result, teacher_curve=now.points)
    if now.phase == "student":
        return replace(result, student_curve=now.points)
    return result
