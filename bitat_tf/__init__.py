"""1-bit Keras networks for phones: BiTAT calibration, training, conversion, measurement.

Importing this package makes Keras 2 (tf-keras) the Keras of TensorFlow.
"""

from bitat_tf import (
    _keras,  # first: it chooses the Keras that everything else sees
    bench,
    convert,
    data,
    models,
    report,
    runtime,
    train,
)
from bitat_tf._version import __version__
from bitat_tf.binarize import BinarizeReport, binarize
from bitat_tf.config import CalibrationConfig, DataConfig
from bitat_tf.convert import binary_kernels
from bitat_tf.counts import Counts, count
from bitat_tf.graph import binary_units
from bitat_tf.train import BitatCallback, Schedule, calibrate, recompute_batchnorm

__all__ = [
    "BinarizeReport",
    "BitatCallback",
    "CalibrationConfig",
    "Counts",
    "DataConfig",
    "Schedule",
    "__version__",
    "bench",
    "binarize",
    "binary_kernels",
    "binary_units",
    "calibrate",
    "convert",
    "count",
    "data",
    "models",
    "recompute_batchnorm",
    "report",
    "runtime",
    "train",
]

del _keras
