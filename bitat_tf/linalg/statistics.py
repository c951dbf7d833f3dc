"""Steps 5 and 6: the BatchNorm behind the signs, and the threshold in front of them."""

from dataclasses import dataclass

import numpy as np

from bitat_tf.linalg.moments import Array, Moments

# Lloyd's iteration ends where no sample changes its cell, which takes some tens of rounds.
_LLOYD_ROUNDS = 200


@dataclass(frozen=True)
class BatchNormValues:
    """What to put into the BatchNorm behind a binary convolution.

    Attributes:
        gamma: scale, (N,).
        beta: offset, (N,).
        moving_mean: (N,).
        moving_variance: (N,), at least 0.
    """

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

    Args:
        point: moments of the layer.
        signs: B, (K, N), in {-1, +1}.
        alpha: scale per output channel, (N,).
        epsilon: the BatchNorm's own, added to the variance.

    Returns:
        Its four vectors, (N,) each.
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


def lloyd_max_thresholds(values: Array, count: int) -> Array:
    """The thresholds of a quantizer of `count` + 1 levels that keeps most of the signal.

    One is found exactly (`lloyd_max_threshold`). More are a fixed point of Lloyd's iteration
    from equally filled cells: each lies midway between the means of the two cells beside it.

    Args:
        values: (samples, channels).
        count: thresholds of each channel, at least 1.

    Returns:
        (count, channels), ascending; all alike where a channel is constant.
    """
    if count == 1:
        return lloyd_max_threshold(values)[None]
    samples, channels = values.shape
    ordered = np.sort(values.astype(np.float64), axis=0)
    origin = ordered[samples // 2]
    sums = np.concatenate([np.zeros((1, channels)), np.cumsum(ordered - origin, axis=0)])
    equal_parts = np.round(np.arange(1, count + 1) * samples / (count + 1)).astype(int)
    splits = np.repeat(equal_parts[:, None], channels, axis=1)
    ends = np.zeros((1, channels), int), np.full((1, channels), samples)
    for _ in range(_LLOYD_ROUNDS):
        edges = np.concatenate([ends[0], splits, ends[1]])
        sizes = np.diff(edges, axis=0)
        means = np.diff(np.take_along_axis(sums, edges, axis=0), axis=0) / np.maximum(sizes, 1)
        # A cell that lost all its samples stands where it was cut.
        cuts = np.take_along_axis(ordered, np.minimum(edges[:-1], samples - 1), axis=0)
        centres = np.where(sizes > 0, means + origin, cuts)
        found = 0.5 * (centres[1:] + centres[:-1])
        moved = np.stack([np.sum(ordered <= threshold, axis=0) for threshold in found])
        if np.array_equal(moved, splits):
            break
        splits = moved
    return found
