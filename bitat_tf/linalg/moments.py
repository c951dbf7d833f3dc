"""Step 1: what a layer sees and should put out, as sums that add up over batches."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


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
