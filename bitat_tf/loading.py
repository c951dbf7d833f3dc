"""Models from disk, or one clear line why not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf import keras_archive, runtime
from bitat_tf._keras import keras

# Those for phones have some megabytes, their float rivals up to some hundred.
_MAX_FLATBUFFER_BYTES = 1 << 30


def load_keras_model(path: Path) -> Any:
    """Load a `.keras` file or SavedModel directory without compiling it.

    A `.keras` file is first looked through by `keras_archive.check`.

    Raises:
        ValueError: when it is not there, not a model, or damaged.
    """
    if not os.path.exists(path):
        raise ValueError(f"There is no model at {path}.")
    try:
        keras_archive.check(path)
        model = keras.models.load_model(path, compile=False)
    # Zip, zlib, JSON, HDF5, TensorFlow and every layer's constructor have errors of their own
    # for a file that is wrong.
    except Exception as err:
        kind = "" if isinstance(err, OSError | ValueError) else f"{type(err).__name__}: "
        reason = " ".join(f"{kind}{err}".split())[:200]
        raise ValueError(f"{path} is not a Keras model that can be read: {reason}") from err
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path} is a SavedModel that Keras did not write: it has no layers.")
    return model


def is_saved_model(path: Path) -> bool:
    """Whether a directory is a SavedModel."""
    return (path / "saved_model.pb").is_file()


def read_flatbuffer(path: Path) -> bytes:
    """Read and verify a `.tflite` file.

    Raises:
        ValueError: when it is not there or not a whole flatbuffer.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no flatbuffer at {path}. Make one with `bitat convert`.")
    with Path(path).open("rb") as file:
        content = file.read(runtime.HEAD_BYTES)
        if runtime.is_flatbuffer(content):  # a foreign file may be of any size
            _check_size(path)
            content += file.read()
    try:
        runtime.verify(content)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    return content


def _check_size(path: Path) -> None:
    size = Path(path).stat().st_size
    if size > _MAX_FLATBUFFER_BYTES:
        raise ValueError(
            f"{path} has {size:,} bytes; networks of up to {_MAX_FLATBUFFER_BYTES:,} are taken."
        )


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
