"""The importance of a kernel's directions while it is trained: a loss, and a release by it.

In the coordinates of a layer's transform, C = V diag(s) V^T, the error of a binarized kernel is
a sum over directions, each weighted by its own importance (docs/method.md):

    tr((W - Q)^T C (W - Q)) = sum_k s_k ||(V^T (W - Q))_k||^2

- `quantization_error` is that, relative to tr(W^T C W), as a term of the training loss;
- `partly_binary` binarizes some directions and leaves the others real. `ReleaseMostFirst` and
  `ReleaseLeastFirst` are the quantizers that release direction after direction to 1 bit.

All of it is training only. At the end of a release the kernel is +-1, as without one, and the
scale is in the BatchNorm behind, as ever. Kernels are (kh, kw, c_in, c_out), K = kh kw c_in;
C and V are block-diagonal, (blocks, size, size), as `layers.OrthonormalTransform` holds them.
"""

from collections.abc import Callable
from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.quantizers import AnnealedQuantizer, lq, magnitude

_register = keras.saving.register_keras_serializable("bitat_tf")

# alpha is divided by. Under a correlation that nearly cancels sign(W)^T W it could be next to
# nothing, and W / alpha without bounds; this share of mean|w|, its value for C = I, is kept.
_SMALLEST_SCALE = 0.1


def least_squares_scale(kernel: Any, correlation: Any) -> Any:
    """alpha per output channel that minimises tr((W - alpha B)^T C (W - alpha B)), B = sign(W).

    alpha_n = b_n^T C w_n / (b_n^T C b_n), at least 0; 0 where the denominator vanishes. Without
    gradient.

    Args:
        kernel: W, (kh, kw, c_in, c_out).
        correlation: C, (blocks, size, size).

    Returns:
        (c_out,).
    """
    slabs = _slabs(kernel, correlation)
    signs = lq.math.sign(slabs)
    return _scale(signs, tf.matmul(correlation, slabs), tf.matmul(correlation, signs))


def quantization_error(kernel: Any, correlation: Any) -> Any:
    """tr((W - alpha B)^T C (W - alpha B)) / tr(W^T C W): the share of the output lost to signs.

    Signs and alpha are constants. The quotient is differentiated as a whole: it does not depend
    on the scale of W, so no kernel lowers it by shrinking.

    Args:
        kernel: latent W, (kh, kw, c_in, c_out).
        correlation: C, (blocks, size, size).

    Returns:
        A scalar, at least 0; 0 where tr(W^T C W) vanishes.
    """
    slabs = _slabs(kernel, correlation)
    signs = tf.stop_gradient(lq.math.sign(slabs))
    image, image_of_signs = tf.matmul(correlation, slabs), tf.matmul(correlation, signs)
    alpha = _scale(signs, image, image_of_signs)
    error = tf.reduce_sum((slabs - alpha * signs) * (image - alpha * image_of_signs))
    return tf.math.divide_no_nan(error, tf.reduce_sum(slabs * image))


def released_directions(importance: Any, share: Any, most_first: bool) -> Any:
    """m: which directions are 1-bit already.

    The first ceil(share K) of all K in the order of their importance, over all blocks, ties in
    order. More of them with a larger share, and never others instead.

    Args:
        importance: s, (blocks, size).
        share: scalar in [0, 1].
        most_first: most important first, or least.

    Returns:
        (blocks, size), in {0, 1}.
    """
    flat = tf.reshape(importance, [-1])
    direction = "DESCENDING" if most_first else "ASCENDING"
    order = tf.argsort(flat, direction=direction, stable=True)
    rank = tf.cast(tf.argsort(order), flat.dtype)  # the inverse permutation
    released = rank < share * tf.cast(tf.size(flat), flat.dtype)
    return tf.reshape(tf.cast(released, flat.dtype), tf.shape(importance))


def partly_binary(kernel: Any, correlation: Any, vectors: Any, released: Any) -> Any:
    """sign(W) in the released directions, W / alpha in the others.

    Q = B + V diag(1 - m) V^T (W / alpha - B): the kernel alpha B + V diag(1 - m) V^T
    (W - alpha B) over its scale, which is the BatchNorm's as it is that of a +-1 kernel. With
    m = 1 it is B exactly, with m = 0 W / alpha up to rounding.

    The gradient is straight through for |w| <= 1, whatever m: that of `ste_sign`, so the
    optimizer's moments stay valid through the release and beyond.

    Args:
        kernel: latent W, (kh, kw, c_in, c_out).
        correlation: C, (blocks, size, size).
        vectors: V, (blocks, size, size).
        released: m, (blocks, size) in {0, 1}.

    Returns:
        Q, of the kernel's shape.
    """
    least = _SMALLEST_SCALE * magnitude(kernel)
    scale = tf.maximum(least_squares_scale(kernel, correlation), least)
    real = tf.math.divide_no_nan(kernel, scale)
    rotated = tf.matmul(vectors, _slabs(real - lq.math.sign(kernel), vectors), transpose_a=True)
    kept = tf.matmul(vectors, (1.0 - released)[..., None] * rotated)
    binary = lq.quantizers.ste_sign(kernel)
    return binary + tf.stop_gradient(tf.reshape(kept, tf.shape(kernel)))


def _slabs(kernel: Any, blocks: Any) -> Any:
    """The kernel's rows in blocks: (blocks, size, c_out)."""
    return tf.reshape(kernel, (*blocks.shape[:2], kernel.shape[-1]))


def _scale(signs: Any, image: Any, image_of_signs: Any) -> Any:
    """`least_squares_scale` from B, C W and C B, each (blocks, size, c_out)."""
    numerator = tf.reduce_sum(signs * image, axis=(0, 1))
    denominator = tf.reduce_sum(signs * image_of_signs, axis=(0, 1))
    return tf.stop_gradient(tf.maximum(tf.math.divide_no_nan(numerator, denominator), 0.0))


class ReleaseQuantizer(AnnealedQuantizer):
    """`partly_binary` for the kernel of a `BitatConv2D`; `progress` is the share released.

    Args:
        **kwargs: of a Keras layer, such as `name`.

    Attributes:
        most_first: the order of the release.
    """

    always_binary = False
    most_first: bool

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A function, which Keras does not track: the state is the layer's, not the quantizer's.
        self._transform: Callable[[], Any] | None = None

    def bind(self, transform: Any) -> None:
        """Take the `OrthonormalTransform` of the layer whose kernel this quantizes.

        Args:
            transform: built or not.

        Raises:
            ValueError: when it is another layer's already.
        """
        if self._transform is not None:
            raise ValueError(
                f"A {type(self).__name__} belongs to one BitatConv2D, whose transform it reads. "
                "Give each layer its own, or the quantizer's name."
            )
        self._transform = lambda: transform

    def call(self, inputs: Any) -> Any:
        """Binarize the released directions.

        Args:
            inputs: latent kernel, (kh, kw, c_in, c_out).

        Returns:
            The same shape; +-1 at `progress` 1.

        Raises:
            ValueError: when no transform was bound to it.
        """
        if self._transform is None:
            raise ValueError(
                f"A {type(self).__name__} quantizes the kernel of a BitatConv2D, whose transform "
                "it reads. Received: none."
            )
        transform = self._transform()

        def mixed() -> Any:
            released = released_directions(transform.importance, self.progress, self.most_first)
            return partly_binary(inputs, transform.correlation, transform.vectors, released)

        # Once all is released, nothing but the signs is computed.
        return tf.cond(self.progress < 1.0, mixed, lambda: lq.quantizers.ste_sign(inputs))


@lq.utils.register_alias("release_most_first")
@_register
class ReleaseMostFirst(ReleaseQuantizer):
    """Releases the most important directions first."""

    most_first = True


@lq.utils.register_alias("release_least_first")
@_register
class ReleaseLeastFirst(ReleaseQuantizer):
    """Releases the least important directions first."""

    most_first = False
