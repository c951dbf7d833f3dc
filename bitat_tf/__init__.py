"""1-bit Keras networks for phones: BiTAT calibration, training, conversion, measurement.

Importing this package makes Keras 2 (tf-keras) the Keras of TensorFlow.
"""

from bitat_tf import (
    _keras,  # first: it chooses the Keras that everything else sees
    models,
)
from bitat_tf._version import __version__

__all__ = ["__version__", "models"]

del _keras
