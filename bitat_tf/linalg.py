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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

# Rows handled together in `binary_least_squares`: the inner loop then works on a
# (64, N) slab that stays in cache, and the rest is one matrix product per slab.
_SLAB = 64

# Inputs in {-1, +1} have variances of order 1; where all are below this the layer's inputs are
# dead, and what D still holds is rounding that must not be divided by next to nothing.
_SMALLEST_RIDGE = 1e-6


@dataclass(frozen=True)
class Moments:
    """Weighted sums over positions, from which C and D follow; add two to merge them.

    Attributes:
        weight: sum of omega.
        x: sum of omega x, (K,).
        t: sum of omega t, (N,).
        xx: sum of omega x x^T, (K, K).
        xt: sum of omega x t^T, (K, N).
        tt: sum of omega t^2, (N,).
    """

    weight: float
    x: Array
    t: Array
    xx: Array
    xt: Array
    tt: Array

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.weight + other.weight,
            self.x + other.x,
            self.t + other.t,
            self.xx + other.xx,
            self.xt + other.xt,
            self.tt + other.tt,
        )

    @property
    def mean_x(self) -> Array:
        """mu, (K,)."""
        return self.x / self.weight

    @property
    def mean_t(self) -> Array:
        """tau, (N,)."""
        return self.t / self.weight

    @property
    def correlation(self) -> Array:
        """C, (K, K), symmetric positive semi-definite."""
        return self.xx / self.weight - np.outer(self.mean_x, self.mean_x)

    @property
    def target_correlation(self) -> Array:
        """D, (K, N)."""
        return self.xt / self.weight - np.outer(self.mean_x, self.mean_t)

    @property
    def target_variance(self) -> Array:
        """Variance of each target channel, (N,), at least 0."""
        return np.maximum(self.tt / self.weight - self.mean_t**2, 0.0)


def moments(x: Array, t: Array, omega: Array | None = None) -> Moments:
    """Sum the moments of one batch of positions.

    The products run in the arrays' own precision (float32 from TensorFlow: exact for x in
    {-1, +1} up to 2^24 positions) and are returned in float64, so batches add up safely.

    Args:
        x: (positions, K).
        t: (positions, N).
        omega: (positions,) non-negative weights; None is all ones.

    Raises:
        ValueError: on half precision, or where shapes disagree.
    """
    for name, array in (("x", x), ("t", t)):
        if array.ndim != 2:
            raise ValueError(f"`{name}` must be two-dimensional. Received: shape {array.shape}")
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"`{name}` must be float32 or float64: half precision loses the correlation. "
                f"Received: {array.dtype}"
            )
    if len(x) != len(t) or len(x) == 0:
        raise ValueError(
            f"`x` and `t` must have the same, positive number of rows. "
            f"Received: {len(x)} and {len(t)}"
        )
    if omega is None:
        weighted_x, weighted_t, weight = x, t, float(len(x))
    else:
        if omega.shape != (len(x),) or np.any(omega < 0):
            raise ValueError("`omega` must hold one non-negative weight per row.")
        weighted_x, weighted_t = x * omega[:, None], t * omega[:, None]
        weight = float(omega.sum(dtype=np.float64))
    return Moments(
        weight,
        weighted_x.sum(axis=0, dtype=np.float64),
        weighted_t.sum(axis=0, dtype=np.float64),
        (weighted_x.T @ x).astype(np.float64),
        (weighted_x.T @ t).astype(np.float64),
        np.einsum("pn,pn->n", weighted_t, t, dtype=np.float64),
    )


def block_count(size: int, max_block: int) -> int:
    """Smallest number of equal diagonal blocks of at most `max_block` that make up `size`.

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
    """The diagonal blocks of a (K, K) matrix, (blocks, K / blocks, K / blocks)."""
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
    """V^T M: into the disentangled coordinates. V (blocks, size, size), M (K, N)."""
    blocks, size, _ = vectors.shape
    slabs = matrix.reshape(blocks, size, -1)
    return (np.swapaxes(vectors, 1, 2) @ slabs).reshape(matrix.shape)


def unrotate(vectors: Array, matrix: Array) -> Array:
    """V M: back from the disentangled coordinates; the inverse of `rotate`."""
    blocks, size, _ = vectors.shape
    return (vectors @ matrix.reshape(blocks, size, -1)).reshape(matrix.shape)


def importance_weighted_error(vectors: Array, importance: Array, difference: Array) -> float:
    """sum_k s_k ||(V^T dW)_k||^2, the output error of a kernel difference (step 2)."""
    rotated = rotate(vectors, difference)
    return float(np.sum(importance.reshape(-1, 1) * rotated**2))


def ridge_strength(importance: Array, ridge: float) -> float:
    """lambda: `ridge` times the mean importance, and at least `_SMALLEST_RIDGE`."""
    return max(ridge * float(importance.mean()), _SMALLEST_RIDGE)


def compensate(
    correlation: Array,
    target_correlation: Array,
    vectors: Array,
    importance: Array,
    strength: float,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> Array:
    """W* = (C + lambda I)^-1 D: the real kernel that best maps input to target (step 3).

    With one block this is V diag(1 / (s + lambda)) V^T D itself. With several, that is the
    preconditioner of conjugate gradients on the whole of C, so that blocks which see
    correlated inputs do not explain the same variance twice.

    Args:
        correlation: C, (K, K).
        target_correlation: D, (K, N).
        vectors, importance: `basis` of C's diagonal blocks.
        strength: lambda > 0.
        tolerance: residual of conjugate gradients relative to D, per output channel.
        max_iterations: bound on their number; the best iterate is returned.

    Returns:
        W*, (K, N).
    """
    inverse = 1.0 / (importance.reshape(-1, 1) + strength)

    def precondition(matrix: Array) -> Array:
        return unrotate(vectors, inverse * rotate(vectors, matrix))

    solution = precondition(target_correlation)
    if len(vectors) == 1:
        return solution
    # Columns are independent systems; each has its own step length.
    residual = target_correlation - correlation @ solution - strength * solution
    preconditioned = precondition(residual)
    direction = preconditioned
    product = np.sum(residual * preconditioned, axis=0)
    scale = np.maximum(np.linalg.norm(target_correlation, axis=0), np.finfo(np.float64).tiny)
    for _ in range(max_iterations):
        if np.all(np.linalg.norm(residual, axis=0) <= tolerance * scale):
            break
        image = correlation @ direction + strength * direction
        curvature = np.sum(direction * image, axis=0)
        step = np.divide(product, curvature, out=np.zeros_like(product), where=curvature > 0)
        solution = solution + step * direction
        residual = residual - step * image
        preconditioned = precondition(residual)
        following = np.sum(residual * preconditioned, axis=0)
        ratio = np.divide(following, product, out=np.zeros_like(product), where=product > 0)
        direction = preconditioned + ratio * direction
        product = following
    return solution


def optimal_scale(gram: Array, projection: Array, signs: Array) -> Array:
    """alpha per column that minimises the quadratic form for fixed signs, at least 0.

    alpha_n = b_n^T A w_n / (b_n^T A b_n); 0 where the denominator vanishes.

    Args:
        gram: A, (K, K), symmetric positive semi-definite.
        projection: A W, (K, N).
        signs: B, (K, N).
    """
    numerator = np.sum(signs * projection, axis=0)
    denominator = np.sum(signs * (gram @ signs), axis=0)
    scale = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return np.maximum(scale, 0.0)


def binary_least_squares(
    gram: Array, projection: Array, start: Array, sweeps: int = 20
) -> tuple[Array, Array]:
    """Signs and one scale per column that best stand for a real kernel (step 4).

    Minimises sum_n (w_n - alpha_n b_n)^T A (w_n - alpha_n b_n) over b in {-1, +1}^K and
    alpha >= 0, by coordinate descent over the rows k, all N columns at once, most important
    row first (largest A_kk, ties in order). A sign flips only where that lowers the error,
    and alpha is refitted after every sweep, so the error never rises: the result is never
    worse than `start`.

    Args:
        gram: A = C + lambda I, (K, K).
        projection: A W*, (K, N); by step 3 this is D.
        start: signs to begin with, (K, N), usually sign(W*).
        sweeps: at most so many; stops earlier when no sign changes.

    Returns:
        B, (K, N) in {-1.0, +1.0}, and alpha, (N,).
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    gram = np.ascontiguousarray(gram[np.ix_(order, order)], dtype=np.float64)
    projection = np.asarray(projection, dtype=np.float64)[order]
    signs = np.where(start[order] < 0, -1.0, 1.0)
    diagonal = np.diag(gram)
    alpha = optimal_scale(gram, projection, signs)
    for _ in range(sweeps):
        image = gram @ signs
        flips = 0
        for first in range(0, len(signs), _SLAB):
            rows = slice(first, min(first + _SLAB, len(signs)))
            before = signs[rows].copy()
            flips += _sweep_slab(
                gram[rows, rows], diagonal[rows], projection[rows], image[rows], signs[rows], alpha
            )
            change = signs[rows] - before
            changed = np.flatnonzero(change.any(axis=0))
            if len(changed):
                image[:, changed] += gram[:, rows] @ change[:, changed]
        alpha = optimal_scale(gram, projection, signs)
        if not flips:
            break
    unordered = np.empty_like(signs)
    unordered[order] = signs
    return unordered, alpha


def _sweep_slab(
    gram: Array, diagonal: Array, projection: Array, image: Array, signs: Array, alpha: Array
) -> int:
    """One pass over the rows of a slab; changes `signs` in place, counts the flips.

    Flipping b_k changes the error by 4 alpha [b_k p_k - alpha (b_k (A b)_k - A_kk)].
    """
    image = image.copy()
    flips = 0
    for k in range(len(signs)):
        gain = signs[k] * projection[k] - alpha * (signs[k] * image[k] - diagonal[k])
        flip = np.flatnonzero((gain < 0) & (alpha > 0))
        if len(flip):
            signs[k, flip] *= -1.0
            image[:, flip] += gram[:, k, None] * (2.0 * signs[k, flip])
            flips += len(flip)
    return flips


def unexplained_variance(point: Moments, kernel: Array) -> float:
    """Share of the target's variance that `kernel`, (K, N), leaves: E||t - W^T x||^2 / Var t.

    Means are taken out. 0 when the target does not vary.
    """
    total = float(point.target_variance.sum())
    if total <= 0:
        return 0.0
    explained = 2.0 * np.sum(kernel * point.target_correlation) - np.sum(
        kernel * (point.correlation @ kernel)
    )
    return float(1.0 - explained / total)


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
