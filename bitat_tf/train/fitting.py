"""One layer fitted from its moments: steps 1 to 5 of docs/method.md, the equations put together."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from bitat_tf import linalg
from bitat_tf.config import CalibrationConfig
from bitat_tf.layers import BitatConv2D
from bitat_tf.results import LayerCalibration
from bitat_tf.train import workers

# Latent weights are clipped to [-1, 1]; one of magnitude 0 would have no sign of its own.
_SMALLEST_LATENT = 1e-4


def sum_moments(batches: Iterable[tuple[Any, ...]]) -> linalg.Moments:
    """Moments over batches of (x, t) or (x, t, omega) rows, holding one batch at a time.

    Args:
        batches: x (positions, K), t (positions, N), omega (positions,).

    Returns:
        Their sums, over all workers.

    Raises:
        ValueError: when there is no batch, or none with a weight above 0.
    """
    total: linalg.Moments | None = None
    for batch in batches:
        point = linalg.moments(*batch)
        total = point if total is None else total + point
    if total is None:
        raise ValueError("No batches to sum over.")
    total = workers.total_moments(total)
    if total.weight == 0:
        raise ValueError("All weights `omega` are 0: no position counts.")
    return total


def solve(point: linalg.Moments, ridge: float, max_block: int) -> tuple[Any, Any, Any, float]:
    """Steps 2 and 3: W*, V, s and lambda from a layer's moments.

    Args:
        point: moments of a layer.
        ridge: lambda as a share of the mean of s.
        max_block: largest block of V.

    Returns:
        W* (K, N), V (blocks, size, size), s (blocks, size), lambda.
    """
    correlation = point.correlation
    blocks = linalg.block_count(len(correlation), max_block)
    vectors, importance = linalg.basis(linalg.diagonal_blocks(correlation, blocks))
    strength = linalg.ridge_strength(importance, ridge)
    kernel = linalg.compensate(correlation, point.target_correlation, vectors, importance, strength)
    return kernel, vectors, importance, strength


def fit_layer(
    layer: BitatConv2D, batchnorm: Any, point: linalg.Moments, config: CalibrationConfig
) -> LayerCalibration:
    """Steps 2 to 5 for one convolution: kernel, transform and BatchNorm, in place.

    Args:
        layer: the convolution; its kernel and transform are set.
        batchnorm: the layer behind it; its gamma, beta and statistics are set.
        point: moments of its binarized input patches and targets.
        config: of the calibration.

    Returns:
        Shares of the target's variance that are left unexplained, before and after.
    """
    before = np.reshape(layer.kernel.latent_variable.numpy(), (-1, layer.filters))
    real, vectors, importance, strength = solve(point, config.ridge, layer.max_block)
    correlation, target = point.correlation, point.target_correlation
    if not config.compensate:
        real = before.astype(np.float64)
    signs, alpha = _signs(point, real, strength, config)

    layer.kernel.latent_variable.assign(
        np.reshape(_latent(signs, real, config.margin), layer.kernel.shape)
    )
    layer.transform.assign(linalg.diagonal_blocks(correlation, len(vectors)), vectors, importance)
    values = linalg.closed_form_batchnorm(point, signs, alpha, batchnorm.epsilon)
    batchnorm.gamma.assign(values.gamma)
    batchnorm.beta.assign(values.beta)
    batchnorm.moving_mean.assign(values.moving_mean)
    batchnorm.moving_variance.assign(values.moving_variance)

    plain = np.where(before < 0, -1.0, 1.0)
    plain_scale = linalg.optimal_scale(correlation, target, plain)
    return LayerCalibration(
        name=layer.name,
        inputs=len(correlation),
        outputs=layer.filters,
        unexplained_sign=linalg.unexplained_variance(point, plain * plain_scale),
        unexplained_real=linalg.unexplained_variance(point, real),
        unexplained_binary=linalg.unexplained_variance(point, signs * alpha),
        sign_changes=float(np.mean(plain != signs)),
    )


def _signs(
    point: linalg.Moments, real: Any, strength: float, config: CalibrationConfig
) -> tuple[Any, Any]:
    """Step 4, and its ablations: signs for a real kernel, and the scales for the target."""
    correlation, target = point.correlation, point.target_correlation
    if config.code_search == "diagonal":
        # Where no input is correlated with another each sign is its own problem.
        signs = np.where(real < 0, -1.0, 1.0)
        return signs, linalg.optimal_scale(correlation, target, signs)
    gram = correlation + strength * np.eye(len(correlation))
    projection = target if config.compensate else gram @ real
    signs, alpha = linalg.binary_least_squares(gram, projection, real, config.sweeps)
    if not config.compensate:
        alpha = linalg.optimal_scale(correlation, target, signs)
    return signs, alpha


def _latent(signs: Any, real: Any, margin: float) -> Any:
    """Where the training of a kernel starts: the signs, with the real kernel's magnitudes."""
    size = np.abs(real)
    if margin:
        size = linalg.scaled_to_mean(size, margin)
    return signs * np.clip(size, _SMALLEST_LATENT, 1.0)


__all__ = ["fit_layer", "solve", "sum_moments"]
