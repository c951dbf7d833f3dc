"""Quantizers: Larq's, and those of the field that Larq lacks, each a pure function and a class.

`sign` maps to {-1, +1} with sign(0) = +1, as Larq and the LCE converter have it. What
differs is the pseudo-gradient, and what happens to a kernel before its sign is taken:

- `quadratic_sign`, activations: Bi-Real's piecewise quadratic estimate, Larq's `approx_sign`
  in fewer operations;
- `ste_sign` (Larq): straight through for |x| <= 1 (Courbariaux et al. 2016, arXiv 1602.02830);
- `magnitude_aware_sign` (Larq), kernels: mean|w| sign(w) per output channel;
- `ede_sign`, `libra_sign`, `recu_sign`, `staged_sign`, `masked_sign`, `masked_kernel`: here.

The last are *annealed*: they change while the network is trained. Each class holds its
`progress` in [0, 1], a variable that no gradient reaches, which the training sets before
every step (`bitat_tf.train.annealing`) and which starts at 1, the end. Nothing of that
reaches the device: at its end every quantizer gives +-1 times a scale per output channel,
and `deployed` says which Larq quantizer computes the same.
"""

import math
from typing import Any

from bitat_tf._keras import keras, quiet_import, tf

with quiet_import():
    import larq as lq

ACTIVATION_QUANTIZER = "quadratic_sign"
"""Of activations, where nothing else is asked for."""
KERNEL_QUANTIZER = "ste_sign"
"""Of kernels, where nothing else is asked for: Larq's straight-through sign."""
KERNEL_CONSTRAINT = "weight_clip"
"""Larq's clip of latent weights to [-1, 1]."""

_register = keras.saving.register_keras_serializable("bitat_tf")

# IR-Net, section 3.3: t grows from 0.1 to 10. (The authors' code has other lower ends.)
_EDE_RANGE = (0.1, 10.0)

# ReCU, section 4.1: tau grows from 0.85 to 0.99.
_TAU_RANGE = (0.85, 0.99)

# A kernel whose weights are all equal has no spread to divide by; as in the authors' code.
_VARIANCE_EPSILON = 1e-5

# Keeps the power of two of such a kernel above 0, which no BatchNorm could undo.
_SMALLEST_MAGNITUDE = 2.0**-10


def magnitude(kernel: Any) -> Any:
    """mean|w| per output channel, without gradient.

    Args:
        kernel: (kh, kw, c_in, c_out).

    Returns:
        (c_out,).
    """
    return tf.stop_gradient(tf.reduce_mean(tf.abs(kernel), axis=_inputs(kernel)))


@tf.custom_gradient
def quadratic_sign(x: Any) -> Any:
    """sign(x) under Bi-Real's estimate (Liu et al. 2018, arXiv 1808.00278).

    dq/dx = 2 - 2|x| for |x| <= 1, else 0: values and gradient of Larq's `approx_sign`, in two
    thirds of its time on a CPU.

    Args:
        x: any shape.

    Returns:
        In {-1, +1}, of the same shape.
    """

    def gradient(upstream: Any) -> Any:
        return upstream * tf.nn.relu(2.0 - tf.abs(x + x))

    return 2.0 * tf.cast(x >= 0, x.dtype) - 1.0, gradient


def ede_sign(x: Any, progress: Any) -> Any:
    """sign(x) under IR-Net's error decay estimator (Qin et al. 2020, arXiv 1909.10788).

    dq/dx = k t (1 - tanh(t x)^2) with t = 10^(-1 + 2 progress) and k = max(1/t, 1): wide and
    never zero in the beginning, close to the sign's own impulse in the end.

    Args:
        x: activations or weights, any shape.
        progress: scalar in [0, 1].

    Returns:
        In {-1, +1}, of the same shape.
    """
    low, high = (math.log10(end) for end in _EDE_RANGE)
    t = tf.pow(10.0, low + (high - low) * progress)
    k = tf.maximum(1.0 / t, 1.0)

    @tf.custom_gradient
    def call(values: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            # In one operation: the graph compiler reorders the formula from trainer to trainer.
            return tf.raw_ops.TanhGrad(y=tf.tanh(t * values), dy=k * t * upstream)

        return lq.math.sign(values), gradient

    return call(x)


def libra_sign(kernel: Any, progress: Any) -> Any:
    """IR-Net's libra parameter binarization (Qin et al. 2020, arXiv 1909.10788).

    Per output channel, with w' = (w - mean) / std: q = 2^s sign(w'), s = round(log2 mean|w'|).
    Balanced weights carry the most information in their signs. The gradient passes `ede_sign`
    and the standardisation; 2^s has none.

    Args:
        kernel: (kh, kw, c_in, c_out).
        progress: scalar in [0, 1].

    Returns:
        +-2^s, of the same shape.
    """
    balanced = standardise(kernel)
    size = tf.maximum(magnitude(balanced), _SMALLEST_MAGNITUDE)
    exponent = tf.round(tf.math.log(size) / math.log(2.0))
    return tf.pow(2.0, exponent) * ede_sign(balanced, progress)


def recu_sign(kernel: Any, progress: Any) -> Any:
    """sign behind ReCU's rectified clamp (Xu et al. 2021, arXiv 2103.12369).

    The kernel is standardised per output channel and clamped at Q = -b ln(2 - 2 tau), the tau
    quantile of a Laplace distribution with b = mean|w|, so that the "dead" weights of the tail
    come back to where signs still change. tau grows from 0.85 to 0.99 exponentially.

    The gradient is straight through the sign, zero beyond the clamp. That the standardised
    kernel has a deviation of 2 sqrt(2), and that b is the mean over the whole kernel, follow the
    authors' code; their division of the activations by their deviation in training is left
    out, because behind a BatchNorm it changes next to nothing.

    Args:
        kernel: (kh, kw, c_in, c_out).
        progress: scalar in [0, 1].

    Returns:
        In {-1, +1}, of the same shape.
    """
    spread = 2.0 * math.sqrt(2.0) * standardise(kernel)
    low, high = _TAU_RANGE
    tau = low + (high - low) * (tf.exp(progress) - 1.0) / (math.e - 1.0)
    limit = -tf.stop_gradient(tf.reduce_mean(tf.abs(spread))) * tf.math.log(2.0 - 2.0 * tau)
    return lq.quantizers.ste_sign(tf.clip_by_value(spread, -limit, limit), clip_value=None)


def staged_sign(kernel: Any, progress: Any) -> Any:
    """The kernel itself until `progress` is 1, then its magnitude-aware sign.

    What the two-step trainings of ReActNet (arXiv 2003.03488) need: in the first step only
    the activations are binary. The gradient is 1 in the first step; then straight through for
    |w| <= 1, times the scale.

    Args:
        kernel: (kh, kw, c_in, c_out).
        progress: scalar in [0, 1].

    Returns:
        The kernel, or +-mean|w| per output channel.
    """
    binary = magnitude(kernel) * lq.quantizers.ste_sign(kernel)
    return tf.where(progress < 1.0, kernel, binary)


def masked_sign(x: Any, progress: Any, straight_through: bool = False) -> Any:
    """StoMPP's stochastic mask over activations (Smith, Islam 2026, arXiv 2601.22660).

    Each entry is sign(x) with probability `progress`, without gradient, and else
    clip(x, -1, 1), with its own; there is no straight-through estimate. Our reading of the
    abstract, not of the authors' code: the mask is drawn anew whenever `progress` changes, as
    a pure function of it (layers of equal shape and progress share it).

    Args:
        x: activations, any shape.
        progress: scalar in [0, 1].
        straight_through: give binary entries the clip's gradient as well, as the authors'
            second paper combines the two (arXiv 2606.27759, by its abstract).

    Returns:
        In [-1, 1]; in {-1, +1} at progress 1.
    """
    return _masked(x, lq.math.sign(x), progress, straight_through, salt=0)


def masked_kernel(kernel: Any, progress: Any, straight_through: bool = False) -> Any:
    """StoMPP's stochastic mask over weights (Smith, Islam 2026, arXiv 2601.22660).

    As `masked_sign`, with mean|w| sign(w) per output channel for the binary entries. The scale
    is ours: a kernel that starts from a trained float net is far smaller than 1, and both kinds
    of entries stand in one sum.

    Args:
        kernel: (kh, kw, c_in, c_out).
        progress: scalar in [0, 1].
        straight_through: as in `masked_sign`.

    Returns:
        At progress 1, +-mean|w| per output channel.
    """
    binary = magnitude(kernel) * lq.math.sign(kernel)
    return _masked(kernel, binary, progress, straight_through, salt=1)


def standardise(kernel: Any) -> Any:
    """Mean 0 and deviation 1 per output channel, with gradient.

    Args:
        kernel: (kh, kw, c_in, c_out).

    Returns:
        Of the same shape.
    """
    mean, variance = tf.nn.moments(kernel, _inputs(kernel), keepdims=True)
    return (kernel - mean) * tf.math.rsqrt(variance + _VARIANCE_EPSILON)


def _masked(x: Any, binary: Any, progress: Any, straight_through: bool, salt: int) -> Any:
    # The bits of the progress are a seed: a new mask at every step, the same in every run.
    seed = tf.stack([tf.bitcast(tf.cast(progress, tf.float32), tf.int32), salt])
    draw = tf.random.stateless_uniform(tf.shape(x), seed)  # in [0, 1): at 1 all are binary
    clipped = tf.clip_by_value(x, -1.0, 1.0)
    values = tf.where(draw < progress, tf.stop_gradient(binary), clipped)
    if not straight_through:
        return values

    @tf.custom_gradient
    def through(_: Any) -> tuple[Any, Any]:
        return values, lambda upstream: upstream

    return through(clipped)


def _inputs(kernel: Any) -> list[int]:
    """All axes but that of the output channels, in Larq's own order of summation."""
    return list(range(len(kernel.shape) - 1))


@lq.utils.register_alias("quadratic_sign")
@_register
class QuadraticSign(lq.quantizers.Quantizer):
    """`quadratic_sign`, for activations."""

    precision = 1

    def call(self, inputs: Any) -> Any:
        """Binarize."""
        return quadratic_sign(inputs)


class AnnealedQuantizer(lq.quantizers.Quantizer):
    """Base of the quantizers that change with the training's progress.

    Args:
        **kwargs: of a Keras layer, such as `name`.

    Attributes:
        progress: scalar variable in [0, 1]; 1, the end, until somebody sets it.
        always_binary: whether the output is binary before the end, too.
    """

    precision = 1
    always_binary = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "trainable": False})
        self.progress = self.add_weight(
            "progress", (), dtype="float32", trainable=False, initializer="ones"
        )

    @property
    def binary(self) -> bool:
        """Whether it gives +-1 times a scale per output channel now."""
        return self.always_binary or float(self.progress.numpy()) >= 1.0

    def deployed(self, kernel: Any) -> tuple[Any, Any]:
        """What computes the same without this package, once the training is over.

        Args:
            kernel: latent, (kh, kw, c_in, c_out).

        Returns:
            A quantizer of Larq's, and the latent kernel that goes with it.
        """
        return lq.quantizers.SteSign(), self(kernel)


class _Scaled(AnnealedQuantizer):
    """Ends as mean|w| sign(w), which Larq has."""

    always_binary = False

    def deployed(self, kernel: Any) -> tuple[Any, Any]:
        """Larq's `MagnitudeAwareSign` of the same kernel.

        Args:
            kernel: latent, (kh, kw, c_in, c_out).

        Returns:
            The quantizer, and the kernel as it is.
        """
        return lq.quantizers.MagnitudeAwareSign(), tf.convert_to_tensor(kernel)


@lq.utils.register_alias("ede_sign")
@_register
class EdeSign(AnnealedQuantizer):
    """`ede_sign`, for activations."""

    def call(self, inputs: Any) -> Any:
        """Binarize."""
        return ede_sign(inputs, self.progress)


@lq.utils.register_alias("libra_sign")
@_register
class LibraSign(AnnealedQuantizer):
    """`libra_sign`, for kernels."""

    def call(self, inputs: Any) -> Any:
        """Binarize."""
        return libra_sign(inputs, self.progress)

    def deployed(self, kernel: Any) -> tuple[Any, Any]:
        """+-2^s, whose mean magnitude is 2^s to the last bit.

        Args:
            kernel: latent, (kh, kw, c_in, c_out).

        Returns:
            Larq's `MagnitudeAwareSign`, and a kernel of the same shape.
        """
        return lq.quantizers.MagnitudeAwareSign(), self(kernel)


@lq.utils.register_alias("recu_sign")
@_register
class RecuSign(AnnealedQuantizer):
    """`recu_sign`, for kernels."""

    def call(self, inputs: Any) -> Any:
        """Binarize."""
        return recu_sign(inputs, self.progress)


@lq.utils.register_alias("staged_sign")
@_register
class StagedSign(_Scaled):
    """`staged_sign`, for kernels."""

    def call(self, inputs: Any) -> Any:
        """Pass or binarize."""
        return staged_sign(inputs, self.progress)


@lq.utils.register_alias("masked_sign")
@_register
class MaskedSign(AnnealedQuantizer):
    """`masked_sign`, for activations."""

    always_binary = False
    straight_through = False

    def call(self, inputs: Any) -> Any:
        """Binarize a share of the entries."""
        return masked_sign(inputs, self.progress, self.straight_through)


@lq.utils.register_alias("masked_ste_sign")
@_register
class MaskedSteSign(MaskedSign):
    """`masked_sign` with a straight-through gradient for the binary entries."""

    straight_through = True


@lq.utils.register_alias("masked_kernel")
@_register
class MaskedKernel(_Scaled):
    """`masked_kernel`, for kernels."""

    straight_through = False

    def call(self, inputs: Any) -> Any:
        """Binarize a share of the entries."""
        return masked_kernel(inputs, self.progress, self.straight_through)


@lq.utils.register_alias("masked_ste_kernel")
@_register
class MaskedSteKernel(MaskedKernel):
    """`masked_kernel` with a straight-through gradient for the binary entries."""

    straight_through = True
