"""Where the thresholds of a sign start (step 6 of docs/method.md), over all workers' images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitat_tf import linalg
from bitat_tf.config import ThresholdRule
from bitat_tf.train import workers

# Samples per channel from which a threshold is found: its standard error is then below one
# hundredth of the channel's deviation.
_THRESHOLD_SAMPLES = 16384


def thresholds(values: Sequence[Any], rule: ThresholdRule, count: int = 1) -> Any:
    """Thresholds per channel from a sign's inputs over all batches (step 6).

    Args:
        values: this worker's batches (batch, height, width, channels), as many positions each.
        rule: `"lloyd_max"`, `"median"` (of several, the quantiles that cut the samples into
            equal parts) or `"zero"`.
        count: thresholds of each channel.

    Returns:
        (count, channels), ascending.

    Raises:
        ValueError: when the values are not finite, or several thresholds shall all be zero.
    """
    channels = values[0].shape[-1]
    if rule == "zero":
        if count > 1:
            raise ValueError(
                f"calibration.threshold=zero would make all {count} thresholds of a channel the "
                "same. Choose lloyd_max or median."
            )
        return np.zeros((1, channels))
    samples = _samples([np.reshape(v, (-1, channels)) for v in values])
    if not np.all(np.isfinite(samples)):
        raise ValueError("The inputs of a sign hold NaN or infinity: check the model's weights.")
    if rule == "median":
        return np.quantile(samples, np.arange(1, count + 1) / (count + 1), axis=0)
    return linalg.lloyd_max_thresholds(samples, count)


def _samples(batches: Sequence[Any]) -> Any:
    """Some rows of the batches of all workers, drawn at random, in the order of the batches."""
    team = workers.current()
    (counts,) = workers.total(_at(team.index, len(batches), team.count))
    total = int(np.sum(counts))
    share, rng = -(-_THRESHOLD_SAMPLES // total), np.random.default_rng(0)
    own = iter(batches)
    chosen = []
    for number in range(total):
        mine = number % team.count == team.index
        rows = next(own) if mine else batches[0]  # another worker's, of the same length
        if len(rows) > share:
            rows = rows[rng.integers(0, len(rows), share)]
        chosen.append(rows if mine else np.zeros_like(rows))
    (samples,) = workers.total(np.concatenate(chosen))
    return samples


def _at(index: int, value: float, count: int) -> Any:
    """`count` numbers, all 0 but one."""
    return np.where(np.arange(count) == index, value, 0)


__all__ = ["thresholds"]
