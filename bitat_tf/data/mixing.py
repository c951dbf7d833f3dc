"""Soft labels and images mixed with others of their batch, as pure functions of a seed.

- label smoothing: (1 - epsilon) onehot(y) + epsilon / classes (arXiv 1512.00567);
- MixUp: x' = l x_i + (1 - l) x_j, and the same of the labels, l ~ Beta(a, a) per image and j a
  permutation of the batch (arXiv 1710.09412);
- CutMix: a rectangle of x_j of the share 1 - l of the area, at a random place, replaces that of
  x_i; labels are mixed by the share that is seen after cutting at the edges (arXiv 1905.04899).

What KerasCV's layers of these names do, with random numbers drawn statelessly (see `augment`):
those draw theirs within the layer, and offer no way to hand them in. In training only.
"""

from bitat_tf._keras import tf


def smooth(labels: tf.Tensor, classes: int, epsilon: float) -> tf.Tensor:
    """Class indices (batch,) as float32 distributions (batch, classes)."""
    return tf.one_hot(labels, classes) * (1.0 - epsilon) + epsilon / classes


def beta(alpha: float, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw (count,) float32 numbers of Beta(alpha, alpha) from two integers."""
    # In float64: both of two small gamma variables would be 0 in float32 at alpha = 0.1.
    gammas = tf.random.stateless_gamma([2, count], seed, alpha, dtype=tf.float64)
    return tf.cast(gammas[0] / tf.reduce_sum(gammas, axis=0), tf.float32)


def mixup(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """MixUp.

    Args:
        images: float (batch, height, width, channels).
        labels: float (batch, classes).
        seed: two integers.
        alpha: of the Beta distribution, positive.

    Returns:
        Images and labels of the same shapes.
    """
    of_share, of_other = tf.unstack(tf.random.split(seed, 2))
    count = tf.shape(images)[0]
    share = beta(alpha, count, of_share)
    other = _permutation(count, of_other)
    return _blend(images, other, share[:, None, None, None]), _blend(labels, other, share[:, None])


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix; arguments and results as of `mixup`."""
    of_share, of_other, of_row, of_column = tf.unstack(tf.random.split(seed, 4))
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    side = tf.sqrt(1.0 - beta(alpha, count, of_share))
    rows = _stretch(height, side, of_row)[:, :, None, None]
    columns = _stretch(width, side, of_column)[:, None, :, None]
    kept = 1.0 - tf.cast(rows & columns, images.dtype)
    other = _permutation(count, of_other)
    share = tf.reduce_mean(kept, axis=[1, 2, 3])[:, None]
    return _blend(images, other, kept), _blend(labels, other, share)


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """MixUp or CutMix, whichever alpha is above 0; where both are, by the toss of a coin."""
    of_coin, of_mix = tf.unstack(tf.random.split(seed, 2))
    if not cutmix_alpha:
        return mixup(images, labels, of_mix, alpha=mixup_alpha)
    if not mixup_alpha:
        return cutmix(images, labels, of_mix, alpha=cutmix_alpha)
    mixed: tuple[tf.Tensor, tf.Tensor] = tf.cond(
        tf.random.stateless_uniform([], of_coin) < 0.5,
        lambda: mixup(images, labels, of_mix, alpha=mixup_alpha),
        lambda: cutmix(images, labels, of_mix, alpha=cutmix_alpha),
    )
    return mixed


def _permutation(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


def _blend(values: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * values + (1.0 - share) * tf.gather(values, other)


def _stretch(size: int, side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Which of `size` pixels lie in a stretch of `side` of them around a random center."""
    center = tf.random.stateless_uniform([tf.size(side), 1], seed, 0, size)
    half = side[:, None] * size / 2
    pixels = tf.range(size, dtype=tf.float32) + 0.5
    return tf.abs(pixels - center) < half
