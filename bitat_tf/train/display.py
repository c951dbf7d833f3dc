"""What a person sees of a training and of a calibration while they run.

On a terminal a live bar; elsewhere (a log file, a scheduler's output) plain lines, one for each
logged point, stage or layer, which can be read with `tail` and searched with `grep`.
"""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bitat_tf.results import TrainingPoint

# Columns of a terminal from which there is room for a bar beside the figures.
_WIDE = 100


def duration(seconds: float) -> str:
    """A time as a person reads it.

    Args:
        seconds: at least 0.

    Returns:
        `"1:05"`, or `"2:00:05"` from an hour on.
    """
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class Display:
    """Shows one training.

    Args:
        title: what is trained.
        steps: optimizer steps in all.
        console: where; a live bar on a terminal, else plain lines. None shows nothing.
    """

    def __init__(self, title: str, steps: int, console: Console | None) -> None:
        self._title = title
        self._steps = steps
        self._console = console
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            # What the figures leave of the line; where that is nothing, they come first.
            bar = [BarColumn(bar_width=None)] if console.width >= _WIDE else []
            self._bar = Progress(
                TextColumn("{task.description}"),
                TextColumn("{task.fields[stage]}"),
                *bar,
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                console=console,
                expand=bool(bar),
            )
            self._task = self._bar.add_task(title, total=steps, stage="", figures="")

    def start(self) -> None:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()

    def stop(self) -> None:
        """Leave the terminal as it was, the last figures on it."""
        if self._bar is not None:
            self._bar.stop()

    def goes_on(self, done: int) -> None:
        """Show that the training goes on after an interruption.

        Args:
            done: optimizer steps taken before.
        """
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        self.say(f"goes on after step {done}/{self._steps}")

    def step(
        self, done: int, loss: float, accuracy: float, speed: float | None, left: float
    ) -> None:
        """Show one finished step; plain lines leave it to the logged points.

        Args:
            done: optimizer steps so far.
            loss: of its batch.
            accuracy: of its batch, in [0, 1].
            speed: images per second; None where it is not known.
            left: seconds until the end, estimated.
        """
        if self._bar is not None:
            per_second = "" if speed is None else f"{speed:,.0f} img/s "
            figures = f"loss {loss:.3f} acc {accuracy:.0%} {per_second}{duration(left)}"
            self._bar.update(self._task, completed=done, figures=figures)

    def point(self, point: TrainingPoint, speed: float | None, left: float) -> None:
        """Show one logged point, as a line where there is no bar.

        Args:
            point: of the curve.
            speed: as in `step`.
            left: as in `step`.
        """
        if self._bar is not None:
            return
        validation = point.validation_accuracy
        parts = [
            f"step {point.step}/{self._steps}",
            f"loss {point.loss:.3f}",
            f"accuracy {point.accuracy:.1%}",
            "" if validation is None else f"validation {validation:.1%}",
            "" if speed is None else f"{speed:,.0f} images/s",
            f"left {duration(left)}",
        ]
        self.say("  ".join(part for part in parts if part))

    def stage(self, text: str) -> None:
        """Show in the bar what the training is at; without a bar, nothing.

        Args:
            text: a few words.
        """
        if self._bar is not None:
            self._bar.update(self._task, stage=text)

    def say(self, text: str) -> None:
        """Show a line, above the bar where there is one.

        Args:
            text: without the title, which is put in front.
        """
        if self._console is not None:
            self._console.print(f"{self._title}: {text}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def layer_display(title: str, console: Console | None) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far a calibration is, layer by layer.

    Args:
        title: what goes on.
        console: where, as of `Display`.

    Yields:
        The `progress` argument of `train.calibrate`.
    """
    if console is None:
        yield lambda name, done, total: None
        return
    if not console.is_terminal:
        yield lambda name, done, total: console.print(
            f"{title}: {done}/{total} {name}", highlight=False, soft_wrap=True
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[layer]}"), console=console) as bar:
        task = bar.add_task(title, total=None, layer="")
        yield lambda name, done, total: bar.update(task, completed=done, total=total, layer=name)
