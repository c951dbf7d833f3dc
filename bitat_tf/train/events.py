"""What TensorBoard shows of a training; docs/seeing.md says what each chart means.

Written through `tf.summary`, at logged points, stages and calibrations, and flushed there, so
that TensorBoard is up to date while the training runs. Nothing here is read back: event files
are for the eye, `report.json` is the record.
"""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.layers import BitatConv2D
from bitat_tf.results import CalibrationResult, StageRecord, TrainingPoint
from bitat_tf.train.flips import Flips

# Importances of exactly 0, and those that rounding made negative, stand at the left end.
_SMALLEST_SHARE = 1e-12


def spectrum(importance: Any) -> Any:
    """The importance vector of a transform as a histogram shows it.

    Args:
        importance: s, (blocks, size).

    Returns:
        log10 of each s over their mean, (blocks * size,), in ascending order; at least -12.
    """
    values = np.sort(np.ravel(importance)).astype(np.float64)
    mean = values.mean()
    if mean <= 0:  # a layer whose inputs never change
        return np.full(values.shape, np.log10(_SMALLEST_SHARE))
    return np.log10(np.maximum(values / mean, _SMALLEST_SHARE))


class Events:
    """Writes one TensorBoard run; a context manager.

    Args:
        folder: of its event files; made.
        student: the model that is trained or calibrated, for flip rates and spectra.
    """

    def __init__(self, folder: Path, student: Any) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))
        self._layers = {n.name: n for n in student.layers if isinstance(n, BitatConv2D)}
        self._flips = Flips(student)

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not on disk yet, and close the file."""
        self._writer.close()

    def point(self, point: TrainingPoint, images_per_second: float | None) -> None:
        """A logged point of the curve, and how many signs flipped since the last.

        Args:
            point: of the curve.
            images_per_second: None where it is not known.
        """
        scalars = {
            "train/loss": point.loss,
            "train/accuracy": point.accuracy,
            "train/images_per_second": images_per_second,
            "validation/accuracy": point.validation_accuracy,
        }
        rates = self._flips.rates()
        if rates:
            scalars["flips/all_layers"] = float(np.mean(list(rates.values())))
        scalars.update({f"flips/{name}": rate for name, rate in rates.items()})
        self._scalars(scalars, point.step)

    def stage(self, record: StageRecord) -> None:
        """A stage of the schedule, as it was entered.

        Args:
            record: of the stage.
        """
        self._flips.stage()
        self._scalars({"schedule/binary_units": record.binary_units}, record.step)

    def resumed(self, at_point: bool) -> None:
        """Go on after an interruption.

        Args:
            at_point: whether from a logged point.
        """
        self._flips.resumed(at_point)

    def calibration(self, result: CalibrationResult, step: int) -> None:
        """What a calibration measured, and the importance spectra that it found.

        In the charts `by_layer` the horizontal axis is the layer's position from the bottom.

        Args:
            result: of some or all layers of the student.
            step: optimizer steps before it.
        """
        scalars: dict[str, float | None] = {}
        for layer in result.layers:
            scalars[f"unexplained/{layer.name}"] = layer.unexplained_binary
            scalars[f"unexplained_floor/{layer.name}"] = layer.unexplained_real
        positions = {name: position for position, name in enumerate(self._layers)}
        with self._writer.as_default():
            for layer in result.layers:
                position = positions[layer.name]
                tf.summary.scalar("by_layer/unexplained", layer.unexplained_binary, step=position)
                tf.summary.scalar("by_layer/floor", layer.unexplained_real, step=position)
                importance = self._layers[layer.name].transform.importance.numpy()
                tf.summary.histogram(f"importance/{layer.name}", spectrum(importance), step=step)
        self._scalars(scalars, step)

    def _scalars(self, values: dict[str, float | None], step: int) -> None:
        with self._writer.as_default():
            for name, value in values.items():
                if value is not None:
                    tf.summary.scalar(name, value, step=step)
        self._writer.flush()
