"""Models from disk, or one clear line why not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def read_images(path: Path) -> np.ndarray:
    """Read a `.npy` file of float32 images (n, height, width, channels).

    Raises:
        ValueError: when it is not there or holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"There are no images at {path}. Write them with numpy.save.")
    try:
        images = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as err:
        raise ValueError(f"{path} is no .npy file that can be read: {err}") from err
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.ndim != 4:
        found = f"{getattr(images, 'dtype', type(images).__name__)} {np.shape(images)}"
        raise ValueError(
            f"{path} must hold float32 images (n, height, width, channels). Received: {found}"
        )
    return images
