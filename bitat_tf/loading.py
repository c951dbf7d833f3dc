"""Models from disk, or one clear line why not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitat_tf import runtime
from bitat_tf._keras import keras


def load_keras_model(path: Path) -> Any:
    """Load a `.keras` file or SavedModel directory without compiling it.

    Raises:
        ValueError: when it is not there or not a model.
    """
    if not os.path.exists(path):
        raise ValueError(f"There is no model at {path}.")
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as err:
        reason = " ".join(str(err).split())[:200]
        raise ValueError(f"{path} is not a Keras model that can be read: {reason}") from err
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path} is a SavedModel that Keras did not write: it has no layers.")
    return model


def read_flatbuffer(path: Path) -> bytes:
    """Read and verify a `.tflite` file.

    Raises:
        ValueError: when it is not there or not a whole flatbuffer.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no flatbuffer at {path}. Make one with `bitat convert`.")
    content = Path(path).read_bytes()
    try:
        runtime.verify(content)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    return content


def short_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their file names, or by the whole path where two have the same."""
    names = [path.name for path in paths]
    return {p.name if names.count(p.name) == 1 else str(p): p for p in paths}
