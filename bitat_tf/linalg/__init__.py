"""The equations of BiTAT as pure functions of NumPy arrays (docs/method.md).

Notation for one layer: K inputs, N output channels. x is a binarized input patch in
{-1, +1}^K, t in R^N what the layer should put out there, omega >= 0 the weight of that
position. All second moments are about the mean, because the BatchNorm behind the layer
absorbs means.

    C = E[omega (x - mu)(x - mu)^T]     correlation of the inputs      (K, K)
    D = E[omega (x - mu)(t - tau)^T]    correlation with the target    (K, N)
    C = V diag(s) V^T                   V orthonormal, s the importance

In the rotated coordinates V^T W every row's error counts by its own importance and no
other: E||(W - W')^T (x - mu)||^2 = sum_k s_k ||(V^T (W - W'))_k||^2.

For a large K, V is block-diagonal: `blocks` of equal size along the diagonal, stored as
(blocks, size, size). Only eigendecompositions are cut into blocks; compensation and the
choice of signs see the whole of C.

Everything is computed in float64 unless said otherwise; no Keras here.
"""

from bitat_tf.linalg.kernels import (
    binary_least_squares,
    compensate,
    optimal_scale,
    ridge_strength,
    scaled_to_mean,
)
from bitat_tf.linalg.moments import Moments, moments, unexplained_variance
from bitat_tf.linalg.statistics import (
    BatchNormValues,
    closed_form_batchnorm,
    lloyd_max_threshold,
    lloyd_max_thresholds,
)
from bitat_tf.linalg.tracking import batch_correlation, moving_average
from bitat_tf.linalg.transform import (
    basis,
    block_count,
    diagonal_blocks,
    importance_weighted_error,
    rotate,
    unrotate,
)

__all__ = [
    "BatchNormValues",
    "Moments",
    "basis",
    "batch_correlation",
    "binary_least_squares",
    "block_count",
    "closed_form_batchnorm",
    "compensate",
    "diagonal_blocks",
    "importance_weighted_error",
    "lloyd_max_threshold",
    "lloyd_max_thresholds",
    "moments",
    "moving_average",
    "optimal_scale",
    "ridge_strength",
    "rotate",
    "scaled_to_mean",
    "unexplained_variance",
    "unrotate",
]
