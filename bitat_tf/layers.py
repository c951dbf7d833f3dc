"""Keras layers: what a binary network is made of while it is trained.

`RSign` -> `BitatConv2D` -> BatchNormalization is one binary convolution. Both layers carry
a switch, `active`: off, they pass reals and compute the teacher's ordinary convolution, so a
student with nothing active *is* its float twin; on, they are 1-bit. The progressive schedule
turns layers on from the bottom to the top.

`Shortcut` is an addition that `bitat_tf.binarize` puts around a convolution; it has the switch
too.

`OrthonormalTransform` is state of the training only: nothing of it reaches the device
(`bitat_tf.convert.strip`). Layout is channels last throughout.
"""

from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.importance import ReleaseQuantizer
from bitat_tf.linalg import block_count
from bitat_tf.quantizers import (
    ACTIVATION_QUANTIZER,
    KERNEL_CONSTRAINT,
    KERNEL_QUANTIZER,
    lq,
)
from bitat_tf.records import check

_register = keras.saving.register_keras_serializable("bitat_tf")


@_register
class OrthonormalTransform(keras.layers.Layer):
    """Rotation into the coordinates in which a layer's inputs are uncorrelated (BiTAT's V).

    y = V^T x along the last axis, with C = V diag(s) V^T the correlation of the layer's
    (binarized) inputs. V is block-diagonal where K exceeds `max_block`.

    State, none of it trained by gradient: `correlation` (blocks, size, size), `vectors` V
    (blocks, size, size), `importance` s (blocks, size). Before the first `assign`, C and V
    are the identity.

    Args:
        max_block: largest block.
        **kwargs: of a Keras layer, such as `name`.

    Input shape: (..., K). Output shape: the same.
    """

    def __init__(self, max_block: int = 1152, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "trainable": False})
        self.max_block = max_block

    def build(self, input_shape: Any) -> None:
        """Make the state for the last dimension of `input_shape`."""
        inputs = int(input_shape[-1])
        blocks = block_count(inputs, self.max_block)
        size = inputs // blocks

        def identity(shape: Any, dtype: Any = None, **_: Any) -> Any:
            return tf.eye(size, batch_shape=[blocks], dtype=dtype)

        state = {"trainable": False, "dtype": "float32"}
        matrix = (blocks, size, size)
        self.correlation = self.add_weight("correlation", matrix, initializer=identity, **state)
        self.vectors = self.add_weight("vectors", matrix, initializer=identity, **state)
        self.importance = self.add_weight("importance", matrix[:2], initializer="ones", **state)
        super().build(input_shape)

    def assign(self, correlation: Any, vectors: Any, importance: Any) -> None:
        """Take over a correlation's blocks and their `linalg.basis`.

        Args:
            correlation: C, (blocks, size, size).
            vectors: V, (blocks, size, size), orthonormal blocks.
            importance: s, (blocks, size).
        """
        self.correlation.assign(correlation)
        self.vectors.assign(vectors)
        self.importance.assign(importance)

    def call(self, inputs: Any) -> Any:
        """V^T x."""
        return self._apply("...bi,bij->...bj", inputs)

    def inverse(self, inputs: Any) -> Any:
        """V x: undoes `call`, because V is orthonormal.

        Args:
            inputs: (..., K).

        Returns:
            (..., K).
        """
        return self._apply("...bj,bij->...bi", inputs)

    def _apply(self, equation: str, inputs: Any) -> Any:
        shape = tf.shape(inputs)
        blocks, size = self.importance.shape
        split = tf.reshape(inputs, tf.concat([shape[:-1], [blocks, size]], axis=0))
        return tf.reshape(tf.einsum(equation, split, self.vectors), shape)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "max_block": self.max_block}


@_register
class BitatConv2D(lq.layers.QuantConv2D):
    """Larq's binary convolution that carries its `OrthonormalTransform`.

    With `active` on it computes with sign(W), padding by `pad_values`; off, with W itself
    and zero padding, as an ordinary `Conv2D` does. The input is binarized by the `RSign` in
    front, the scale of the kernel lives in the BatchNorm behind.

    Args:
        filters, kernel_size, strides, padding: as in `keras.layers.Conv2D`.
        pad_values: what a "same" convolution pads its binary input with; 1.0 is what LCE
            computes without a correction step.
        max_block: largest block of the transform; K = kh * kw * c_in beyond it is divided.
        kernel_quantizer, kernel_constraint: Larq's arguments; the defaults are +-1 kernels
            with a straight-through gradient and latent weights clipped to [-1, 1].
            `bitat_tf.quantizers` has more quantizers than Larq, by name as well, and
            `bitat_tf.importance` those that release the directions of the transform to 1 bit.
        use_bias, groups: no other than False and 1; there so that configurations load.
        **kwargs: of Larq's `QuantConv2D`, such as `dilation_rate` and `name`.

    Attributes:
        transform: the `OrthonormalTransform`, of training only.
        active: bool variable, the switch; in `RSign` and `Shortcut` as well.

    Raises:
        ValueError: when asked for a bias (the BatchNorm behind has one) or for groups.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "same",
        pad_values: float = 1.0,
        max_block: int = 1152,
        kernel_quantizer: Any = KERNEL_QUANTIZER,
        kernel_constraint: Any = KERNEL_CONSTRAINT,
        use_bias: bool = False,
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        if use_bias or groups != 1:
            raise ValueError(
                "A BitatConv2D has no bias, which the BatchNormalization behind it holds, and no "
                f"groups. Received: use_bias={use_bias}, groups={groups}"
            )
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            pad_values=pad_values,
            kernel_quantizer=kernel_quantizer,
            kernel_constraint=kernel_constraint,
            use_bias=use_bias,
            **kwargs,
        )
        # Larq sets it before Keras is ready to keep track of an annealed quantizer's progress.
        self.kernel_quantizer = self._get_quantizer("kernel")
        self.max_block = max_block
        self.transform = OrthonormalTransform(max_block, name="transform")
        if isinstance(self.kernel_quantizer, ReleaseQuantizer):
            self.kernel_quantizer.bind(self.transform)

    def build(self, input_shape: Any) -> None:
        """Make kernel, switch and transform for (batch, height, width, c_in)."""
        super().build(input_shape)
        kh, kw, c_in, _ = self.kernel.shape
        self.transform.build((None, kh * kw * c_in))
        self.active = _add_switch(self)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, but read as it is, in mixed precision too: signs are those of float32.

        Args:
            *args, **kwargs: of Keras's method, such as `name` and `shape`.

        Returns:
            The variable.
        """
        return super().add_weight(*args, **{"experimental_autocast": False, **kwargs})

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with the binary kernel, or with the latent one while inactive.

        Args:
            inputs: (batch, height, width, c_in), padded.
            kernel: quantized, (kh, kw, c_in, c_out).

        Returns:
            (batch, height', width', c_out).
        """
        latent = tf.cast(self.kernel.latent_variable, inputs.dtype)
        chosen = tf.where(self.active, tf.cast(kernel, inputs.dtype), latent)
        return super().convolution_op(inputs, chosen)

    def call(self, inputs: Any) -> Any:
        """Convolve (batch, height, width, c_in) to (batch, height', width', filters)."""
        if self._is_native_padding:
            return super().call(inputs)
        padded = self.pad(inputs)
        with (
            lq.utils.patch_object(self, "_is_native_padding", True),
            lq.utils.patch_object(self, "padding", "valid"),
        ):
            return super().call(padded)

    def pad(self, inputs: Any) -> Any:
        """Pad as this layer does before it convolves: by `pad_values`, or 0 if inactive.

        Args:
            inputs: (batch, height, width, c_in).

        Returns:
            The same, larger where `padding` is `"same"`.
        """
        if self.padding != "same":
            return inputs
        value = tf.where(self.active, tf.cast(self.pad_values, inputs.dtype), 0.0)
        return tf.pad(inputs, self._get_padding_same(inputs), constant_values=value)

    def patches(self, inputs: Any) -> Any:
        """The layer's input patches, one row per output position.

        Args:
            inputs: (batch, height, width, c_in), as the layer receives them.

        Returns:
            (positions, K), K = kh * kw * c_in in the order of `tf.image.extract_patches`.
        """
        kh, kw = self.kernel_size
        sh, sw = self.strides
        dh, dw = self.dilation_rate
        padded = self.pad(tf.convert_to_tensor(inputs))
        if (kh, kw) == (1, 1):
            columns = padded[:, ::sh, ::sw]
        else:
            columns = tf.image.extract_patches(
                padded, [1, kh, kw, 1], [1, sh, sw, 1], [1, dh, dw, 1], "VALID"
            )
        return tf.reshape(columns, (-1, columns.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "max_block": self.max_block}


@_register
class RSign(keras.layers.Layer):
    """sign(x + shift) with one learnable shift per channel (ReActNet, arXiv 2003.03488).

    With several `thresholds` each channel gives as many bits, each with a shift of its own
    (the multiple binary activations of ABC-Net, arXiv 1711.11294): the convolution behind sees
    that many times the channels, all of them still 1-bit, and far more of the signal.

    With `active` off it passes x, or the activation `inactive` of x, which is what the float
    twin computes there; once for each threshold.

    Args:
        quantizer: whose pseudo-gradient it has, by name or as an instance.
        thresholds: bits per channel.
        inactive: a Keras activation, by name.
        **kwargs: of a Keras layer, such as `name`.

    Raises:
        ValueError: when `thresholds` is not an integer of at least 1.

    Input shape: (..., channels). Output shape: (..., thresholds * channels), all channels of
    the first threshold before those of the second; in {-1, +1} when active.
    """

    def __init__(
        self,
        quantizer: Any = ACTIVATION_QUANTIZER,
        thresholds: int = 1,
        inactive: str = "linear",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check(
            isinstance(thresholds, int) and thresholds >= 1,
            "thresholds",
            "an integer of at least 1",
            thresholds,
        )
        self.quantizer = lq.quantizers.get(quantizer)
        self.thresholds = thresholds
        self.inactive = keras.activations.get(inactive)

    def build(self, input_shape: Any) -> None:
        """Make the shift, (thresholds * channels,), and the switch."""
        size = self.thresholds * int(input_shape[-1])
        self.shift = self.add_weight("shift", (size,), initializer="zeros")
        self.active = _add_switch(self)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Binarize."""
        if self.thresholds > 1:
            inputs = tf.concat([inputs] * self.thresholds, axis=-1)
        return tf.cond(
            self.active,
            lambda: tf.cast(self.quantizer(inputs + self.shift), inputs.dtype),
            lambda: tf.identity(self.inactive(inputs)),
        )

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "quantizer": lq.quantizers.serialize(self.quantizer),
            "thresholds": self.thresholds,
            "inactive": keras.activations.serialize(self.inactive),
        }


@_register
class RPReLU(keras.layers.Layer):
    """PReLU with learnable shifts before and behind it (ReActNet, arXiv 2003.03488).

    y = max(z, 0) + slope * min(z, 0) + shift_out with z = x + shift_in, each per channel.

    Input shape: (..., channels). Output shape: the same.
    """

    def build(self, input_shape: Any) -> None:
        """Make shift_in, slope and shift_out, (channels,) each."""
        shape = (int(input_shape[-1]),)
        slope = keras.initializers.Constant(0.25)
        self.shift_in = self.add_weight("shift_in", shape, initializer="zeros")
        self.slope = self.add_weight("slope", shape, initializer=slope)
        self.shift_out = self.add_weight("shift_out", shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Apply it."""
        slope = tf.convert_to_tensor(self.slope)  # a custom gradient takes no mirrored variable
        return _prelu(inputs + self.shift_in, slope) + self.shift_out


@_register
class Shortcut(keras.layers.Add):
    """What a binary convolution reads, added to what it puts out; the float network has none.

    Called on [branch, shortcut]. With `active` off it passes the branch alone.

    Input shape: two of (batch, height, width, channels). Output shape: the same.
    """

    def build(self, input_shape: Any) -> None:
        """Make the switch."""
        super().build(input_shape)
        self.active = _add_switch(self)

    def call(self, inputs: Any) -> Any:
        """Add."""
        branch, shortcut = inputs
        return branch + tf.where(self.active, shortcut, tf.zeros_like(shortcut))


@tf.custom_gradient
def _prelu(z: Any, slope: Any) -> Any:
    """max(z, 0) + slope * min(z, 0), with a gradient of few operations: a fifth faster."""
    negative = tf.minimum(z, 0.0)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        below = tf.raw_ops.ReluGrad(gradients=upstream, features=-negative)  # where z < 0
        axes = list(range(len(z.shape) - 1))
        return upstream - (1.0 - slope) * below, tf.reduce_sum(upstream * negative, axes)

    return tf.maximum(z, 0.0) + slope * negative, gradient


def _add_switch(layer: Any) -> Any:
    return layer.add_weight(
        "active",
        (),
        dtype="bool",
        trainable=False,
        initializer=lambda shape, dtype=None, **_: tf.ones(shape, dtype),
    )
