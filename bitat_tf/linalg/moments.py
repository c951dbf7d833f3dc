"""Step 1: what a layer sees and should put out, as sums that add up over batches."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

# A variance below this share of the mean square is rounding: float32 holds a value to 6e-8 of
# itself, so what should be constant still varies by the square of that.
_ROUNDING = 1e-12


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

    @cached_property
    def correlation(self) -> Array:
        """C, (K, K), symmetric positive semi-definite."""
        return self.xx / self.weight - np.outer(self.mean_x, self.mean_x)

    @cached_property
    def target_correlation(self) -> Array:
        """D, (K, N)."""
        return self.xt / self.weight - np.outer(self.mean_x, self.mean_t)

    @property
    def target_variance(self) -> Array:
        """Variance of each target channel, (N,), at least 0."""
        return np.maximum(self.tt / self.weight - self.mean_t**2, 0.0)


def moments(x: Array, t: Array, omega: Array | None = None) -> Moments:
    """Sum the moments of one batch of positions.

    The products run on centred values in the arrays' own precision (float32 from TensorFlow),
    and the means are added back in float64. So of an input that never changes no correlation is
    left that is only float32's rounding, and batches add up safely.

    Args:
        x: (positions, K).
        t: (positions, N).
        omega: (positions,) non-negative weights; None is all ones.

    Returns:
        Their sums.

    Raises:
        ValueError: on half precision, on NaN and infinity, or where shapes disagree.
    """
    for name, array in (("x", x), ("t", t)):
        if array.ndim != 2:
            raise ValueError(f"`{name}` must be two-dimensional. Received: shape {array.shape}")
        _check_precision(name, array)
    if len(x) != len(t) or len(x) == 0:
        raise ValueError(
            f"`x` and `t` must have the same, positive number of rows. "
            f"Received: {len(x)} and {len(t)}"
        )
    if omega is not None:
        _check_precision("omega", omega)
        if omega.shape != (len(x),) or not np.all(omega >= 0):
            raise ValueError("`omega` must hold one finite, non-negative weight per row.")
    weight = float(len(x) if omega is None else omega.sum(dtype=np.float64))
    mean_x, centred_x = _centre("x", x, omega, weight)
    mean_t, centred_t = _centre("t", t, omega, weight)
    weighted_x, weighted_t = centred_x, centred_t
    if omega is not None:
        weighted_x, weighted_t = centred_x * omega[:, None], centred_t * omega[:, None]
    return Moments(
        weight,
        weight * mean_x,
        weight * mean_t,
        (weighted_x.T @ centred_x) + weight * np.outer(mean_x, mean_x),
        (weighted_x.T @ centred_t) + weight * np.outer(mean_x, mean_t),
        np.einsum("pn,pn->n", weighted_t, centred_t, dtype=np.float64) + weight * mean_t**2,
    )


def _check_precision(name: str, array: Array) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"`{name}` must be float32 or float64: half precision loses the correlation. "
            f"Received: {array.dtype}"
        )


def _centre(name: str, values: Array, omega: Array | None, weight: float) -> tuple[Array, Array]:
    """Weighted mean of the rows, in float64, and the rows less that mean, in their own type."""
    if omega is None:
        total = values.sum(axis=0, dtype=np.float64)
    else:
        total = np.einsum("p,pk->k", omega, values, dtype=np.float64)
    if not np.all(np.isfinite(total)):
        raise ValueError(
            f"`{name}` holds NaN or infinity: check the images, the teacher and the layers below."
        )
    mean = total / (weight or 1.0)  # rows of no weight add nothing, whatever their mean
    return mean, values - mean.astype(values.dtype)


def unexplained_variance(point: Moments, kernel: Array) -> float:
    """Share of the target's variance that a kernel leaves: E||t - W^T x||^2 / Var t.

    Means are taken out.

    Args:
        point: moments of the layer.
        kernel: W, (K, N).

    Returns:
        A share, 0 for a perfect fit and where the target does not vary; above 1 for a kernel worse
        than none.
    """
    total = float(point.target_variance.sum())
    if total <= _ROUNDING * float(point.tt.sum()) / point.weight:
        return 0.0
    explained = 2.0 * np.sum(kernel * point.target_correlation) - np.sum(
        kernel * (point.correlation @ kernel)
    )
    return float(1.0 - explained / total)
