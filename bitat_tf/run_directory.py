"""The files of a run directory: their names, and how they come and go.

    recipe.yaml       the resolved recipe
    report.json       every figure so far (`results.RunResult`), with report.md and PNGs
    teacher.keras     the float twin
    calibrated.keras  the student straight after calibration, before training
    student.keras     the trained student
    model.tflite      its flatbuffer; teacher.tflite and teacher-int8.tflite are the float
                      twin's, in float32 and quantized after training
    model.conversion.md
                      how it was converted (`bitat convert RUN --report`)
    logs/             TensorBoard, unless the recipe wants none
    progress.json     how far it is, and so-far/ its report, while it is not over (`progress`)
    teacher.best.keras, student.best.keras
                      the model at the logged point of the best validation accuracy, its
                      BatchNorm as in training

While a model trains, and after a training that failed, NAME.checkpoint.keras beside them is
the model at the last logged point where all was well, and NAME.checkpoints/ the whole state of
the training (`train.keeper`). Files appear whole or not at all.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bitat_tf.config import Recipe
from bitat_tf.files import atomic_path
from bitat_tf.recipe_files import save_recipe

# Name of the float twin's flatbuffer in int8.
INT8 = "teacher-int8"

_ARTEFACTS = (
    "progress.json",
    "report.json",
    "report.md",
    "model.conversion.md",
    "comparison.csv",
    "comparison.png",
    "operators.png",
    "layers.png",
    "training.png",
    "calibration.png",
    "scores.png",
    "teacher.keras",
    "teacher.checkpoint.keras",
    "teacher.best.keras",
    "calibrated.keras",
    "student.keras",
    "student.checkpoint.keras",
    "student.best.keras",
    "model.tflite",
    "teacher.tflite",
    "teacher-int8.tflite",
)

_TRAINED = ("teacher", "student")


def is_run(folder: Path) -> bool:
    """Whether a run was started there."""
    return (folder / "recipe.yaml").is_file()


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise a ValueError unless a run may be written to `folder`.

    Args:
        folder: of the run.
        overwrite: whether an earlier run may be there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The output {folder} is a file, not a directory.")
    if folder.is_dir() and any(folder.iterdir()):
        if not is_run(folder):
            raise ValueError(f"The output directory {folder} holds something else than a run.")
        if not overwrite:
            raise ValueError(
                f"The output directory {folder} is not empty. Choose another with --out, or "
                "replace the run in it with --overwrite; `bitat train` and `bitat demo` go on with "
                "it with --resume."
            )


def clear(folder: Path) -> None:
    """Remove everything of an earlier run but the recipe.

    Raises:
        OSError: when it cannot be removed.
    """
    for name in _ARTEFACTS:
        (folder / name).unlink(missing_ok=True)
    states = (states_path(folder, name) for name in _TRAINED)
    for directory in (folder / "logs", so_far_path(folder), *states):
        shutil.rmtree(directory, ignore_errors=True)


def start(folder: Path, recipe: Recipe) -> None:
    """Put the recipe into a directory, made where there is none, which is a run from then on.

    Raises:
        OSError: when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "recipe.yaml") as temporary:
        save_recipe(recipe, temporary)


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed process was about to write, and what it was about to remove."""
    for name in ("recipe.yaml", *_ARTEFACTS):
        for path in folder.glob(f".{name}.*"):
            path.unlink()
    for name in _TRAINED:
        if model_path(folder, name).exists():
            clear_training(folder, name)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the directory; one that is killed holds no lock.

    Raises:
        ValueError: when another process does so already.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno == errno.EWOULDBLOCK:
                raise ValueError(f"Another process is at work in {folder}.") from err
            # Some network file systems lock no directories: then nobody is kept away.
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool | None:
    """Whether a process is at work in the directory.

    Args:
        folder: of the run.

    Returns:
        None where it cannot be known: some network file systems lock no directories.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as err:
        return True if err.errno == errno.EWOULDBLOCK else None
    finally:
        os.close(handle)
    return False


def progress_path(folder: Path) -> Path:
    """Where it stands how far a run is, while it is not over."""
    return folder / "progress.json"


def so_far_path(folder: Path) -> Path:
    """Directory of the report of a run that is not over."""
    return folder / "so-far"


def model_path(folder: Path, name: str) -> Path:
    """Where a finished Keras model lies: `"teacher"`, `"calibrated"` or `"student"`."""
    return folder / f"{name}.keras"


def flatbuffer_path(folder: Path, name: str) -> Path:
    """Where a flatbuffer lies: `"model"`, `"teacher"` or `INT8`."""
    return folder / f"{name}.tflite"


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a Keras model lies while it trains: `"teacher"` or `"student"`."""
    return folder / f"{name}.checkpoint.keras"


def best_path(folder: Path, name: str) -> Path:
    """Where the model of the best validation accuracy lies: `"teacher"` or `"student"`."""
    return folder / f"{name}.best.keras"


def states_path(folder: Path, name: str) -> Path:
    """Directory of the states of a model's training: `"teacher"` or `"student"`."""
    return folder / f"{name}.checkpoints"


def save_model(folder: Path, name: str, model: Any) -> None:
    """Save a finished Keras model; what was kept of its training has then done its duty."""
    with atomic_path(model_path(folder, name)) as temporary:
        model.save(temporary)
    clear_training(folder, name)


def clear_training(folder: Path, name: str) -> None:
    """Remove what was kept of a training for the case of its interruption."""
    checkpoint_path(folder, name).unlink(missing_ok=True)
    if states_path(folder, name).exists():
        shutil.rmtree(states_path(folder, name))
