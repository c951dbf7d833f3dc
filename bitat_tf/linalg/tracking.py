"""Step 8: the correlation while the network below is being trained.

What a layer sees drifts with the layers below it. C is tracked as an exponential moving average
over batches, and `basis` of the tracked blocks gives the new V and s: always from nothing, so
V^T V = I holds however often it is done. A warm start from the old V does not pay
(tools/benchmark_refresh.py).
"""

from collections.abc import Callable

import numpy as np

from bitat_tf.linalg.moments import Array, Moments, moments


def batch_correlation(
    x: Array, blocks: int, total: Callable[[Moments], Moments] = lambda own: own
) -> Array:
    """The diagonal blocks of one batch's C.

    Args:
        x: input patches, (positions, K).
        blocks: equal blocks along the diagonal.
        total: from the moments of these positions to those of all, where others have the rest.

    Returns:
        (blocks, K / blocks, K / blocks).

    Raises:
        ValueError: on half precision, or where there is no position.
    """
    # Each block alone: the rest of C is never asked for. There is no target, (positions, 0).
    slabs = np.split(x, blocks, axis=1)
    return np.stack([total(moments(slab, slab[:, :0])).correlation for slab in slabs])


def moving_average(tracked: Array, measured: Array, momentum: float) -> Array:
    """C <- momentum C + (1 - momentum) C_batch; positive semi-definite if both are.

    Args:
        tracked: C so far, (blocks, size, size).
        measured: the batch's own, of the same shape.
        momentum: in [0, 1); 0 forgets all but the batch.

    Returns:
        (blocks, size, size).
    """
    return momentum * tracked + (1.0 - momentum) * measured
