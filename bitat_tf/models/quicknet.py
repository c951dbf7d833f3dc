"""A backbone for latency first, after QuickNet (Bannink et al. 2020, arXiv 2011.09398).

Sections of 3x3 binary convolutions on a shortcut that nothing interrupts:

    x -> RSign -> conv 3x3 -> BN -> + x

Between sections a ReLU, a max pooling and a blur (together the anti-aliased pooling of Zhang
2019, arXiv 1904.11486) and a float 1x1 convolution with BatchNorm, which widens. The stem makes
the image small before it makes it wide.

No activation stands on the shortcut, so every threshold of a section can be moved out of it:
x + b is as good to carry as x, with b taken up by the BatchNorm that starts the shortcut, the
difference to the next b by the BatchNorm of each branch, and what is left taken back by the
last. A block is then LceQuantize, LceBconv2d and ADD. (That is what may be folded on the way to
the device; the network here has all its thresholds.)

Two things differ from larq-zoo's QuickNet. Its signs have no threshold, ours do. It has a ReLU
between convolution and BatchNorm, which we leave out: calibration writes its closed form into
a BatchNorm right behind the convolution. On the device the sign is a block's nonlinearity; the
float twin has a ReLU in its place.
"""

from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.models import parts
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER
from bitat_tf.records import check

layers = keras.layers

Sections = tuple[tuple[int, int], ...]
"""For each section: channels, 3x3 convolutions."""

QUICKNET: Sections = ((64, 4), (128, 4), (256, 4), (512, 4))
"""QuickNet (arXiv 2011.09398)."""

# The stem's first convolution has this many times fewer channels than the first section.
_STEM_DIVISOR = 4


def quicknet(
    *,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    input_channels: int = 3,
    sections: Sections = QUICKNET,
    stem_stride: int | None = None,
    channel_divisor: int = 32,
    max_block: int = 1152,
    activation_quantizer: str = ACTIVATION_QUANTIZER,
    kernel_quantizer: str = KERNEL_QUANTIZER,
    thresholds: int = 1,
    binary: bool = True,
) -> Any:
    """Build the network, by default QuickNet; larq-zoo's QuickNetSmall and QuickNetLarge are
    other `sections`.

    Args:
        classes: number of logits.
        width: multiplies all channels.
        input_size: side of the square input in pixels.
        input_channels: of the input.
        sections: (channels at width 1, 3x3 convolutions) of each section; all but the first
            halve the image's side.
        stem_stride: how much smaller the stem makes the image, 1, 2 or 4, in two steps. None
            is 4 from 64 pixels on, else 1.
        channel_divisor: channels are rounded to multiples of it, and are at least it; LCE
            packs 32 channels into one word.
        max_block: largest block of the layers' transforms.
        activation_quantizer, kernel_quantizer: of the binary layers, by name
            (`bitat_tf.quantizers`).
        thresholds: bits that each sign makes of a channel (`RSign`); the float twin has none.
        binary: False builds the float twin.

    Returns:
        A Keras functional model from images (batch, input_size, input_size, input_channels),
        standardised, to logits (batch, classes).

    Raises:
        ValueError: when an argument is out of range.
    """
    parts.check_sizes(classes, width, input_size)
    parts.check_rows(sections, "sections", ("channels", "convolutions"))
    check(
        channel_divisor % _STEM_DIVISOR == 0, "channel_divisor", "a multiple of 4", channel_divisor
    )
    shrink = parts.stem_stride(stem_stride, input_size, large=4)
    check(shrink in (1, 2, 4), "stem_stride", "1, 2 or 4", stem_stride)

    def channels(exact: int) -> int:
        return parts.round_channels(exact * width, channel_divisor)

    image = layers.Input((input_size, input_size, input_channels), name="image")
    x = _stem(image, channels(sections[0][0]), shrink)
    conv = parts.Convolutions(binary, max_block, activation_quantizer, kernel_quantizer, thresholds)
    for section, (wide, convolutions) in enumerate(sections, start=1):
        if section > 1:
            x = _transition(x, channels(wide), f"transition{section - 1}")
        for block in range(1, convolutions + 1):
            x = _block(conv, x, f"section{section}_block{block}")
    x = layers.ReLU(name="final_relu")(x)
    return parts.classifier(image, x, classes, "quicknet", binary)


def _stem(image: Any, channels: int, shrink: int) -> Any:
    strides = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[shrink]
    x = parts.stem(image, channels // _STEM_DIVISOR, 3, strides[0], activation=False)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.DepthwiseConv2D(
        3, strides[1], padding="same", use_bias=False, name="stem_depthwise"
    )(x)
    x = parts.batchnorm("stem_depthwise_bn")(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name="stem_pointwise")(x)
    return parts.batchnorm("stem_pointwise_bn")(x)


def _block(conv: parts.Convolutions, x: Any, name: str) -> Any:
    y = conv.sign(x, f"{name}_sign", inactive="relu")
    y = conv.convolve(y, x.shape[-1], 3, 1, f"{name}_conv")
    y = parts.batchnorm(f"{name}_bn")(y)
    return layers.Add(name=f"{name}_add")([y, x])


def _transition(x: Any, channels: int, name: str) -> Any:
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.MaxPooling2D(2, 1, padding="same", name=f"{name}_pool")(x)
    x = layers.DepthwiseConv2D(
        3,
        2,
        padding="same",
        use_bias=False,
        depthwise_initializer=_blur(x.shape[-1]),
        trainable=False,
        name=f"{name}_blur",
    )(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")(x)
    return parts.batchnorm(f"{name}_bn")(x)


def _blur(channels: int) -> Any:
    """The binomial filter [1 2 1] x [1 2 1] / 16 for each channel.

    As a constant written out in full: a layer with an initializer of our own could not be loaded
    without this package, and what `convert.strip` makes must be.
    """
    line = np.array([1.0, 2.0, 1.0]) / 4.0
    kernel = np.repeat(np.outer(line, line)[:, :, None, None], channels, axis=2)
    return keras.initializers.Constant(kernel.tolist())
