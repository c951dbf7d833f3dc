"""Step 2: the orthonormal transformation, in which every direction has its own importance."""

import numpy as np

from bitat_tf.linalg.moments import Array


def block_count(size: int, max_block: int) -> int:
    """Smallest number of equal diagonal blocks of at most `max_block` that make up `size`.

    Args:
        size: K.
        max_block: largest size of a block.

    Returns:
        Number of blocks, a divisor of K.

    Raises:
        ValueError: when `size` or `max_block` is below 1.
    """
    if size < 1 or max_block < 1:
        raise ValueError(
            f"`size` and `max_block` must be at least 1. Received: {size}, {max_block}"
        )
    blocks = -(-size // max_block)
    while size % blocks:
        blocks += 1
    return blocks


def diagonal_blocks(matrix: Array, blocks: int) -> Array:
    """The diagonal blocks of a matrix; the rest is left out.

    Args:
        matrix: (K, K).
        blocks: number of blocks, a divisor of K.

    Returns:
        (blocks, K / blocks, K / blocks).
    """
    size = len(matrix) // blocks
    grid = matrix.reshape(blocks, size, blocks, size)
    index = np.arange(blocks)
    return grid[index, :, index, :]


def basis(correlation_blocks: Array) -> tuple[Array, Array]:
    """Eigendecomposition of each diagonal block: C = V diag(s) V^T (step 2).

    Args:
        correlation_blocks: (blocks, size, size), symmetric positive semi-definite.

    Returns:
        V, (blocks, size, size), with orthonormal columns, and the importance s,
        (blocks, size), at least 0 and falling within each block.

    Raises:
        ValueError: when an entry is not finite.
    """
    if not np.all(np.isfinite(correlation_blocks)):
        raise ValueError(
            "The correlation of the layer's inputs is not finite: check the calibration images "
            "and the layers below for NaN or infinity."
        )
    importance, vectors = np.linalg.eigh(correlation_blocks)
    return vectors[..., ::-1].copy(), np.maximum(importance[..., ::-1], 0.0)


def rotate(vectors: Array, matrix: Array) -> Array:
    """V^T M: into the disentangled coordinates.

    Args:
        vectors: V, (blocks, size, size).
        matrix: M, (K, N).

    Returns:
        (K, N).
    """
    blocks, size, _ = vectors.shape
    slabs = matrix.reshape(blocks, size, -1)
    return (np.swapaxes(vectors, 1, 2) @ slabs).reshape(matrix.shape)


def unrotate(vectors: Array, matrix: Array) -> Array:
    """V M: back from the disentangled coordinates; the inverse of `rotate`.

    Args:
        vectors: V, (blocks, size, size).
        matrix: M, (K, N).

    Returns:
        (K, N).
    """
    blocks, size, _ = vectors.shape
    return (vectors @ matrix.reshape(blocks, size, -1)).reshape(matrix.shape)


def importance_weighted_error(vectors: Array, importance: Array, difference: Array) -> float:
    """sum_k s_k ||(V^T dW)_k||^2, the output error of a kernel difference (step 2).

    Args:
        vectors: V, (blocks, size, size).
        importance: s, (blocks, size).
        difference: dW = W - W', (K, N).

    Returns:
        E||dW^T (x - mu)||^2, summed over the outputs.
    """
    rotated = rotate(vectors, difference)
    return float(np.sum(importance.reshape(-1, 1) * rotated**2))
