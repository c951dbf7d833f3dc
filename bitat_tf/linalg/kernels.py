"""Steps 3 and 4: the best real kernel, and the signs and scales that stand for it."""

import numpy as np

from bitat_tf.linalg.moments import Array
from bitat_tf.linalg.transform import rotate, unrotate

# Rows handled together in `binary_least_squares`: the inner loop then works on a
# (64, N) slab that stays in cache, and the rest is one matrix product per slab.
_SLAB = 64

# Inputs in {-1, +1} have variances of order 1; where all are below this the layer's inputs are
# dead, and what D still holds is rounding that must not be divided by next to nothing.
_SMALLEST_RIDGE = 1e-6


def ridge_strength(importance: Array, ridge: float) -> float:
    """lambda: `ridge` times the mean importance, and at least `_SMALLEST_RIDGE`.

    Args:
        importance: s, any shape.
        ridge: a share, such as 0.01.

    Returns:
        lambda, in units of s.
    """
    return max(ridge * float(importance.mean()), _SMALLEST_RIDGE)


def compensate(
    correlation: Array,
    target_correlation: Array,
    vectors: Array,
    importance: Array,
    strength: float,
) -> Array:
    """W* = (C + lambda I)^-1 D: the real kernel that best maps input to target (step 3).

    With one block this is V diag(1 / (s + lambda)) V^T D itself. With several, V does not hold
    the inverse, and the system is solved for the whole of C, so that blocks which see correlated
    inputs do not explain the same variance twice. At K = 4608 and N = 512 that takes a tenth of
    the time of the eigendecomposition it saves, and four steps of conjugate gradients' flops.

    Args:
        correlation: C, (K, K).
        target_correlation: D, (K, N).
        vectors, importance: V, (blocks, size, size), and s, (blocks, size): the `basis` of C's
            diagonal blocks.
        strength: lambda > 0.

    Returns:
        W*, (K, N).
    """
    if len(vectors) == 1:
        inverse = 1.0 / (importance.reshape(-1, 1) + strength)
        return unrotate(vectors, inverse * rotate(vectors, target_correlation))
    return np.linalg.solve(correlation + strength * np.eye(len(correlation)), target_correlation)


def optimal_scale(gram: Array, projection: Array, signs: Array) -> Array:
    """alpha per column that minimises the quadratic form for fixed signs, at least 0.

    alpha_n = b_n^T A w_n / (b_n^T A b_n); 0 where the denominator vanishes.

    Args:
        gram: A, (K, K), symmetric positive semi-definite.
        projection: A W, (K, N).
        signs: B, (K, N).

    Returns:
        alpha, (N,).
    """
    return _scale_of_image(projection, signs, gram @ signs)


def _scale_of_image(projection: Array, signs: Array, image: Array) -> Array:
    """`optimal_scale` where A B, the `image`, is known: the product is the costly part."""
    numerator = np.sum(signs * projection, axis=0)
    denominator = np.sum(signs * image, axis=0)
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
    # A column that points away from its target is turned round: its scale would be 0, and a
    # channel with scale 0 never changes again.
    signs *= np.where(np.sum(signs * projection, axis=0) < 0, -1.0, 1.0)
    image = gram @ signs  # kept up to date from here on: every flip adds its row of A
    alpha = _scale_of_image(projection, signs, image)
    for _ in range(sweeps):
        flips = 0
        for first in range(0, len(signs), _SLAB):
            rows = slice(first, min(first + _SLAB, len(signs)))
            before = signs[rows].copy()
            flips += _sweep_slab(
                gram[rows, rows], diagonal[rows], projection[rows], image[rows], signs[rows], alpha
            )
            change = signs[rows] - before
            changed = np.flatnonzero(change.any(axis=0))
            # A product over all columns beats picking them, but for a few.
            if 4 * len(changed) > change.shape[1]:
                image += gram[:, rows] @ change
            elif len(changed):
                image[:, changed] += gram[:, rows] @ change[:, changed]
        alpha = _scale_of_image(projection, signs, image)
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
            # Rows above k have had their turn.
            image[k + 1 :, flip] += gram[k + 1 :, k, None] * (2.0 * signs[k, flip])
            flips += len(flip)
    return flips


def scaled_to_mean(magnitudes: Array, mean: float) -> Array:
    """c * magnitudes, cut off at 1, with the c at which the result has the asked mean.

    What is cut off is made up for by the rest, which stays in proportion. All alike where every
    magnitude is 0; where too many are, all others are 1 and the mean is what that gives.

    Args:
        magnitudes: at least 0, any shape.
        mean: in (0, 1].

    Returns:
        In [0, 1], of the same shape.
    """
    if not magnitudes.any():
        return np.full_like(magnitudes, mean)
    falling = np.sort(magnitudes, axis=None)[::-1]
    falling = falling[falling > 0]
    # With the m largest at 1, the rest must bring the sum to `mean` times the size.
    missing = mean * magnitudes.size - np.arange(len(falling))
    scales = missing / np.cumsum(falling[::-1])[::-1]
    # The first m whose rest stays below 1.
    fits = np.flatnonzero(scales * falling <= 1.0)
    scale = scales[fits[0]] if len(fits) else 1.0 / falling[-1]
    return np.minimum(scale * magnitudes, 1.0)
