"""What the backbones share: two kinds of convolution from one definition, stems, shortcuts, heads.

A binary convolution is always

    RSign -> BitatConv2D -> BatchNormalization -> + shortcut

which is what calibration and the schedule look for. The float twin has an ordinary convolution of
the same name in its place and no sign, so its weights and activations are found by name.

Layers are made bottom to top, and each builder makes them in one order: with one seed, the same
arguments give the same initial weights.
"""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.records import check

layers = keras.layers

# The protocol of the field for binary networks (larq's guide): the statistics follow a
# network whose signs flip within ten steps, not within a hundred.
BATCHNORM_MOMENTUM = 0.9

# Images from this side on get the published stem; smaller ones would be left with no pixels.
_LARGE_IMAGE = 64

_SLOPE_INITIALIZER = keras.initializers.Constant(0.25)


class Convolutions:
    """Makes convolutions of one kind, binary or float, with what stands in front of them.

    Args:
        binary: False makes the float twin's.
        max_block: of the binary layers' transforms.
        activation_quantizer, kernel_quantizer: of the binary layers, by name.
        thresholds: bits that each sign makes of a channel.
    """

    def __init__(
        self,
        binary: bool,
        max_block: int,
        activation_quantizer: str,
        kernel_quantizer: str,
        thresholds: int,
    ) -> None:
        self.binary = binary
        self.max_block = max_block
        self.activation_quantizer = activation_quantizer
        self.kernel_quantizer = kernel_quantizer
        self.thresholds = thresholds

    def sign(self, x: Any, name: str, inactive: str = "linear") -> Any:
        """Put an `RSign` behind x; in the twin, only what stands in its place.

        Args:
            x: (batch, height, width, channels).
            name: of the sign.
            inactive: what a switched-off sign computes, as a Keras activation. Where the twin
                has no other nonlinearity it needs one here; on the device the sign is one.
        """
        if self.binary:
            return RSign(self.activation_quantizer, self.thresholds, inactive, name=name)(x)
        if inactive == "linear":
            return x
        return layers.Activation(inactive, name=f"{name}_{inactive}")(x)

    def convolve(self, x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        """A "same" convolution without bias, to be followed by a `batchnorm`."""
        if self.binary:
            layer = BitatConv2D(
                channels,
                size,
                stride,
                max_block=self.max_block,
                kernel_quantizer=self.kernel_quantizer,
                name=name,
            )
        else:
            layer = layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name=name)
        return layer(x)


def check_sizes(classes: int, width: float, input_size: int) -> None:
    """Refuse what no backbone can be built with.

    Raises:
        ValueError: when one of them is not positive.
    """
    for name, value in (("classes", classes), ("width", width), ("input_size", input_size)):
        check(value > 0, name, "positive", value)


def check_rows(rows: Any, name: str, fields: tuple[str, ...]) -> None:
    """Refuse a table of the architecture whose rows are not the positive numbers it wants.

    Args:
        rows: the table.
        name: of the argument.
        fields: what stands in a row.

    Raises:
        ValueError: when it is empty, or a row has other fields or one below 1.
    """
    right = bool(rows) and all(
        isinstance(row, list | tuple) and len(row) == len(fields) and min(row) >= 1 for row in rows
    )
    constraint = f"{_TUPLES[len(fields)]} of ({', '.join(fields)}), each at least 1"
    check(right, name, constraint, rows)


_TUPLES = {2: "pairs", 4: "quadruples"}


def round_channels(exact: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, and at least that."""
    return max(divisor, round(exact / divisor) * divisor)


def stem_stride(given: int | None, input_size: int, large: int) -> int:
    """How much smaller the stem makes an image, unless `given`: 1 below 64 pixels, else `large`."""
    if given is not None:
        return given
    return large if input_size >= _LARGE_IMAGE else 1


def batchnorm(name: str) -> Any:
    """The BatchNormalization that stands behind every convolution."""
    return layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, name=name)


def stem(image: Any, channels: int, size: int, stride: int, activation: bool) -> Any:
    """A float convolution with its BatchNorm, and a PReLU if `activation`."""
    x = layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name="stem_conv")(
        image
    )
    x = batchnorm("stem_bn")(x)
    if activation:
        # A slope of 0 would make everything behind it positive, and every sign +1.
        x = layers.PReLU(
            shared_axes=[1, 2], alpha_initializer=_SLOPE_INITIALIZER, name="stem_prelu"
        )(x)
    return x


def shortcut(x: Any, channels: int, stride: int, name: str) -> Any:
    """The way past a convolution that may change size and channels.

    x itself where nothing changes. Else Bi-Real's (Liu et al. 2018, arXiv 1808.00278): average
    pooling over the stride, then a float 1x1 convolution with BatchNorm where channels change.

    Args:
        x: (batch, height, width, c_in).
        channels: of the output.
        stride: of the convolution beside it.
        name: of the block; the layers are `NAME_shortcut_...`.
    """
    if stride != 1:
        x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
    if x.shape[-1] != channels:
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_shortcut_conv")(x)
        x = batchnorm(f"{name}_shortcut_bn")(x)
    return x


def classifier(image: Any, x: Any, classes: int, name: str, binary: bool) -> Any:
    """The model from the images to logits, by the mean of each channel and a Dense layer."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name=f"{name}_{'binary' if binary else 'float'}")
