"""The last good weights of a training, kept on disk while it runs."""

from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf.files import atomic_path


class Checkpoint:
    """One `.keras` file with a model as it was when all was last well.

    Args:
        model: functional Keras model.
        path: of the file, which appears whole or not at all.

    Attributes:
        step: optimizer steps behind the weights in the file; None while nothing was saved.
    """

    def __init__(self, model: Any, path: Path) -> None:
        self.model = model
        self.path = Path(path)
        self.step: int | None = None

    def save(self, step: int) -> None:
        """Put the model as it now is, after `step` optimizer steps, in the file's place.

        Raises:
            FloatingPointError: when a weight is not finite; the file stays as it was.
        """
        if not all(np.all(np.isfinite(weight)) for weight in self.model.get_weights()):
            raise FloatingPointError("The model's weights are not finite.")
        with atomic_path(self.path) as temporary:
            self.model.save(temporary)
        self.step = step

    def __str__(self) -> str:
        if self.step is None:
            return "No weights were saved before that."
        return f"{self.path} holds the weights of logged step {self.step}."
