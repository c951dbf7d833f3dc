"""The last good weights of a training, and the best ones, as models while it runs."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf.files import atomic_path
from bitat_tf.graph import binary_units


def require_finite(model: Any) -> None:
    """Raise a FloatingPointError when a weight of a Keras model is not finite."""
    if not all(np.all(np.isfinite(weight)) for weight in model.get_weights()):
        raise FloatingPointError("The model's weights are not finite.")


class Checkpoint:
    """One `.keras` file with a model as it was when all was last well, and one as it was best.

    Args:
        model: functional Keras model.
        path: of the file, which appears whole or not at all.
        best_path: of the file with the model of the best validation accuracy so far, among
            those with all their units binary; None keeps none.

    Attributes:
        step: optimizer steps behind the weights in the file; None while nothing was saved.
        best: the best accuracy; None while there is none.
    """

    def __init__(self, model: Any, path: Path, best_path: Path | None = None) -> None:
        self.model = model
        self.path = Path(path)
        self.best_path = best_path
        self.step: int | None = None
        self.best: float | None = None

    def save(self, step: int, accuracy: float | None = None) -> None:
        """Put the model as it now is, after `step` optimizer steps, in the file's place.

        Args:
            step: optimizer steps made.
            accuracy: on the validation split, in [0, 1]; None where it was not measured.

        Raises:
            FloatingPointError: when a weight is not finite; the files stay as they were.
        """
        require_finite(self.model)
        with atomic_path(self.path) as temporary:
            self.model.save(temporary)
        self.step = step
        if self.best_path is not None and accuracy is not None and self._is_best(accuracy):
            with atomic_path(self.best_path) as temporary:
                shutil.copyfile(self.path, temporary)
            self.best = accuracy

    def _is_best(self, accuracy: float) -> bool:
        if self.best is not None and accuracy <= self.best:
            return False
        # A network on its way to 1 bit is better than what it will be.
        return all(unit.binary for unit in binary_units(self.model))

    def state(self) -> dict[str, Any]:
        """What to remember beside the files."""
        return {"step": self.step, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the one that gave `state`.

        Args:
            state: of its `state` method, also after a way through JSON.
        """
        self.step, self.best = state["step"], state["best"]

    def __str__(self) -> str:
        if self.step is None:
            return "No weights were saved before that."
        return f"{self.path} holds the weights of logged step {self.step}."
