"""The files of a run directory: their names, and how they come and go.

    recipe.yaml       the resolved recipe
    report.json       every figure so far (`results.RunResult`), with report.md and PNGs
    teacher.keras     the float twin
    calibrated.keras  the student straight after calibration, before training
    student.keras     the trained student
    model.tflite      its flatbuffer; teacher.tflite and teacher-int8.tflite are the float
                      twin's, in float32 and quantized after training
    logs/             TensorBoard

While a model trains, and after a training that failed, NAME.checkpoint.keras beside them is
the model at the last logged point where all was well. Files appear whole or not at all.
"""

import shutil
from pathlib import Path
from typing import Any

from bitat_tf.config import Recipe, save_recipe
from bitat_tf.files import atomic_path

# Name of the float twin's flatbuffer in int8.
INT8 = "teacher-int8"

_ARTEFACTS = (
    "report.json",
    "report.md",
    "comparison.csv",
    "comparison.png",
    "operators.png",
    "layers.png",
    "training.png",
    "calibration.png",
    "scores.png",
    "teacher.keras",
    "teacher.checkpoint.keras",
    "calibrated.keras",
    "student.keras",
    "student.checkpoint.keras",
    "model.tflite",
    "teacher.tflite",
    "teacher-int8.tflite",
)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise a ValueError unless a run may be written to `folder`.

    Args:
        folder: of the run.
        overwrite: whether an earlier run may be there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The output {folder} is a file, not a directory.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "recipe.yaml").is_file():
            raise ValueError(f"The output directory {folder} holds something else than a run.")
        if not overwrite:
            raise ValueError(
                f"The output directory {folder} is not empty. Choose another with --out, or "
                "replace the run in it with --overwrite."
            )


def start(folder: Path, recipe: Recipe) -> None:
    """Make the directory, without anything of an earlier run, and put the recipe there.

    Raises:
        OSError: when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ARTEFACTS:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "logs", ignore_errors=True)
    with atomic_path(folder / "recipe.yaml") as temporary:
        save_recipe(recipe, temporary)


def model_path(folder: Path, name: str) -> Path:
    """Where a finished Keras model lies: `"teacher"`, `"calibrated"` or `"student"`."""
    return folder / f"{name}.keras"


def flatbuffer_path(folder: Path, name: str) -> Path:
    """Where a flatbuffer lies: `"model"`, `"teacher"` or `INT8`."""
    return folder / f"{name}.tflite"


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a Keras model lies while it trains: `"teacher"` or `"student"`."""
    return folder / f"{name}.checkpoint.keras"


def save_model(folder: Path, name: str, model: Any) -> None:
    """Save a finished Keras model; a checkpoint of its training has then done its duty."""
    with atomic_path(model_path(folder, name)) as temporary:
        model.save(temporary)
    checkpoint_path(folder, name).unlink(missing_ok=True)
