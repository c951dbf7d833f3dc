"""Images to learn from, as deterministic `tf.data` pipelines.

`load` takes a `DataConfig` and gives an `ImageData`: training, calibration, validation and
test batches, standardised alike.
"""

from bitat_tf.data.datasets import ImageData, load

__all__ = ["ImageData", "load"]
