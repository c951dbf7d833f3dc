"""Steps 5 and 6: the BatchNorm behind the signs, and the threshold in front of them."""

from dataclasses import dataclass

import numpy as np

from bitat_tf.linalg.moments import Array, Moments


@dataclass(frozen=True)
class BatchNormValues:
    """What to put into the BatchNorm behind a binary convolution, each (N,)."""

    gamma: Array
    beta: Array
    moving_mean: Array
    moving_variance: Array


def closed_form_batchnorm(
    point: Moments, signs: Array, alpha: Array, epsilon: float
) -> BatchNormValues:
    """BatchNorm that turns B^T x into alpha (B^T x - E[B^T x]) + tau (step 5).

    The moving statistics are those of B^T x on the calibration data, so that training goes
    on from the same function; gamma and beta carry the scale and the target's mean.
    """
    mean = signs.T @ point.mean_x
    variance = np.maximum(np.sum(signs * (point.correlation @ signs), axis=0), 0.0)
    gamma = alpha * np.sqrt(variance + epsilon)
    return BatchNormValues(gamma, point.mean_t, mean, variance)


def lloyd_max_threshold(values: Array) -> Array:
    """Threshold per channel at which one bit keeps most of the signal (step 6).

    The best two-level quantizer of the samples: the split that leaves the least variance
    within the two halves (Lloyd 1982, Max 1960; Otsu's criterion on sorted samples, hence
    the global optimum and not only a fixed point), and half the sum of the two means as the
    threshold.

    Args:
        values: (samples, channels).

    Returns:
        (channels,); the mean where a channel is constant.
    """
    samples = len(values)
    ordered = np.sort(values.astype(np.float64), axis=0)
    mean = ordered.mean(axis=0)
    if samples < 2:
        return mean
    low = np.arange(1, samples)[:, None]
    low_sum = np.cumsum(ordered - mean, axis=0)[:-1]
    # Between-class variance of the split behind sample `low`, about the channel's mean.
    between = low_sum**2 / (low * (samples - low))
    split = np.argmax(between, axis=0)
    chosen = np.take_along_axis(low_sum, split[None], axis=0)[0]
    count = split + 1.0
    return mean + 0.5 * (chosen / count - chosen / (samples - count))
