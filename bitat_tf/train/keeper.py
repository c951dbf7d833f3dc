"""The whole state of a training, kept on disk so that a killed run goes on to the same end.

A checkpoint holds every variable of the student (latent kernels, BatchNorm, switches, progress
of annealed quantizers, each transform's C, V and s), of the optimizer (moments and step counter)
and, as one JSON text, what is not a variable: the stages entered and what they measured, the
curve and the sums since its last point. Data order, augmentation and schedules are functions of
the seed and the step, so the step stands for all of them: nothing is replayed.

`tf.train.CheckpointManager` and not Keras's BackupAndRestore: that is a callback of `fit`, which
the custom loop has not, it keeps one state and no Python beside the model's, and it counts steps
within epochs. The manager's state file, replaced by a rename, names the checkpoints that are
whole; what a killed process left unfinished is not in it, and goes at the next start. Every
tensor on disk has a checksum, so a damaged checkpoint is seen, and the one before it is taken.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from bitat_tf._keras import tf
from bitat_tf.config import CheckpointConfig
from bitat_tf.termination import Terminated
from bitat_tf.train.checkpoint import require_finite

# The manager's own file in its directory.
_STATE_FILE = "checkpoint"
_NAME = "step"
_FULL = "No space left on device"


class Remembering(Protocol):
    """What has a state of its own during a training that no variable holds."""

    def state(self) -> Any:
        """All of it, as JSON can hold it."""

    def restore(self, state: Any) -> None:
        """Be as the one that gave `state`.

        Args:
            state: of its `state` method.
        """


class _Memory(tf.train.experimental.PythonState):
    """The states of several parts as one string of a checkpoint."""

    def __init__(self, parts: Mapping[str, Remembering]) -> None:
        self.parts = dict(parts)

    def serialize(self) -> str:
        states = {name: part.state() for name, part in self.parts.items()}
        return json.dumps(states, allow_nan=False)

    def deserialize(self, string_value: Any) -> None:
        states = json.loads(string_value)
        for name, part in self.parts.items():
            part.restore(states[name])


def damage(path: str | Path) -> str:
    """What is wrong with the checkpoint of this prefix, in a few words; "" if nothing is.

    Reads all of it, which checks every checksum.

    Args:
        path: prefix of the checkpoint's files.

    Returns:
        A few words, or none.
    """
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as err:
        return " ".join(str(err).split())[:200] or type(err).__name__
    return ""


def kept(folder: Path) -> tuple[str, ...]:
    """Prefixes of the checkpoints in a directory that were written to their end, oldest first.

    Where their list cannot be read, these are all that look as if they were; `damage` tells.

    Args:
        folder: of one training's checkpoints.

    Returns:
        Prefixes, as `tf.train.load_checkpoint` takes them.
    """
    return _listed(folder) or _present(folder)


def _listed(folder: Path) -> tuple[str, ...]:
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:  # an empty file
        return ()
    paths = state.all_model_checkpoint_paths if state else ()
    # Its process may have been killed after it removed the oldest, before it wrote so.
    return tuple(path for path in paths if Path(f"{path}.index").is_file())


def _present(folder: Path) -> tuple[str, ...]:
    found = {}
    for path in Path(folder).glob(f"{_NAME}-*.index"):
        step = path.stem.removeprefix(f"{_NAME}-")
        if step.isdecimal():
            found[int(step)] = str(path.with_suffix(""))
    return tuple(found[step] for step in sorted(found))


class Keeper:
    """Keeps one training's state while it runs, and brings it back.

    Args:
        folder: of the checkpoints of this training; made with the first.
        student: the model that is trained.
        optimizer: its optimizer; its step counter is the training's.
        config: how often, and how many.
        parts: what else has a state, by name.
        requested: whether SIGTERM came, asked after every step.
        say: takes one line for the user.
    """

    def __init__(
        self,
        folder: Path,
        student: Any,
        optimizer: Any,
        config: CheckpointConfig,
        parts: Mapping[str, Remembering],
        *,
        requested: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = Path(folder)
        self.config = config
        self._student = student
        self._optimizer = optimizer
        self._requested = requested
        self._say = say
        optimizer.build(student.trainable_variables)  # else its moments come with the first step
        self._checkpoint = tf.train.Checkpoint(
            student=student, optimizer=optimizer, memory=_Memory(parts)
        )
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    def forget(self) -> None:
        """Remove what an earlier training left, for one that starts anew."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def restore(self) -> int:
        """Take the newest state that is whole; the number of steps behind it, 0 without one.

        Raises:
            ValueError: when it is the state of another model or of an older version.
        """
        self._mend_list()
        self._remove_unfinished()
        paths = kept(self.folder)
        for path in reversed(paths):
            wrong = damage(path)
            if wrong:
                self._say(f"checkpoint {path} is damaged: {wrong}")
                continue
            if path != paths[-1]:
                self._say(f"checkpoint {path} is taken")
            self._load(path)
            self._saved_step = int(self._optimizer.iterations.numpy())
            return self._saved_step
        if paths:
            self._say("no checkpoint is whole: the training starts again")
        return 0

    def _mend_list(self) -> None:
        """Write the manager's list anew where it cannot be read: it would be taken for empty."""
        if not (self.folder / _STATE_FILE).is_file() or _listed(self.folder):
            return
        found = _present(self.folder)
        self._say(f"the list {self.folder / _STATE_FILE} is damaged: {len(found)} found by name")
        if found:
            tf.compat.v1.train.update_checkpoint_state(str(self.folder), found[-1], found)
        else:
            (self.folder / _STATE_FILE).unlink()

    def _load(self, path: str) -> None:
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (AssertionError, ValueError, KeyError) as err:
            raise ValueError(
                f"{path} is the checkpoint of another model, or of another version of bitat_tf. "
                "Start the run again with --overwrite."
            ) from err

    def after_step(self, done: int, *, last: bool) -> None:
        """Keep the state after `done` steps if it is time to, or SIGTERM came.

        Args:
            done: optimizer steps made.
            last: whether the training is over.

        Raises:
            FloatingPointError: when a weight is not finite; what was kept stays.
            OSError: when the state cannot be written; what was kept stays.
            Terminated: when SIGTERM came, once the state is kept.
        """
        requested = self._requested()
        if last or requested or self._is_time(done):
            self.save(done)
        if requested:
            raise Terminated(f"stopped by SIGTERM after step {done}, which is kept")

    def _is_time(self, done: int) -> bool:
        # A multiple of the steps, wherever the training was resumed.
        if self.config.steps and done % self.config.steps == 0:
            return True
        seconds = self.config.seconds
        return bool(seconds) and time.monotonic() - self._saved_at >= seconds

    def save(self, done: int) -> None:
        """Keep the state after `done` steps, and so many before it as the recipe says.

        Args:
            done: optimizer steps so far.

        Raises:
            FloatingPointError: when a weight of the model is not finite.
            OSError: when the checkpoint cannot be written.
        """
        if done == self._saved_step:
            return
        require_finite(self._student)
        try:
            # One manager a save: it reads what is kept from the directory, the only truth.
            manager = tf.train.CheckpointManager(
                self._checkpoint, str(self.folder), self.config.keep, checkpoint_name=_NAME
            )
            manager.save(checkpoint_number=done)
        except (tf.errors.OpError, OSError) as err:
            self._remove_unfinished()
            reason = " ".join(str(err).split())
            if _FULL in reason:  # TensorFlow adds the names of files that are no more
                reason = _FULL
            stays = "" if self._saved_step is None else f" That of step {self._saved_step} stays."
            raise OSError(
                f"The checkpoint of step {done} cannot be written to {self.folder}: "
                f"{reason[:200]}.{stays} Once there is room, go on with --resume."
            ) from err
        self._saved_step, self._saved_at = done, time.monotonic()

    def _remove_unfinished(self) -> None:
        """Remove what belongs to no whole checkpoint: a process was killed, or the disk full."""
        if not self.folder.is_dir():
            return
        names = tuple(f"{Path(prefix).name}." for prefix in kept(self.folder))
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _STATE_FILE and not path.name.startswith(names):
                path.unlink()
