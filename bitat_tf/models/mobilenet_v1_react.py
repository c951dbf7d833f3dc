"""MobileNetV1 with ReActNet's blocks (Liu et al. 2020, arXiv 2003.03488).

One block is a 3x3 binary convolution that keeps the channels and 1x1 ones that may double
them, each inside its own shortcut:

    x -> RSign -> conv 3x3 -> BN -> + (x, average-pooled at stride 2) -> RPReLU
      -> RSign -> conv 1x1 -> BN -> + -> [two of these concatenated where channels double]
      -> RPReLU

The float twin has the same layer names with ordinary convolutions and no sign, so its
weights and activations are found by name.
"""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.layers import RPReLU
from bitat_tf.models import parts
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER

layers = keras.layers

Blocks = tuple[tuple[int, int], ...]
"""For each block: output channels in multiples of the stem's, stride of the 3x3 convolution."""

REACTNET_A: Blocks = (
    (2, 1),
    (4, 2),
    (4, 1),
    (8, 2),
    (8, 1),
    (16, 2),
    (16, 1),
    (16, 1),
    (16, 1),
    (16, 1),
    (16, 1),
    (32, 2),
    (32, 1),
)
"""The thirteen blocks of ReActNet-A (arXiv 2003.03488), those of MobileNetV1."""

NANO: Blocks = ((2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1))
"""Six blocks for 32-pixel images."""


def mobilenet_v1_react(
    *,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    input_channels: int = 3,
    blocks: Blocks = REACTNET_A,
    stem_channels: int = 32,
    stem_stride: int | None = None,
    stem_activation: bool = False,
    channel_divisor: int = 32,
    max_block: int = 1152,
    activation_quantizer: str = ACTIVATION_QUANTIZER,
    kernel_quantizer: str = KERNEL_QUANTIZER,
    thresholds: int = 1,
    binary: bool = True,
) -> Any:
    """Build the network, by default ReActNet-A (arXiv 2003.03488).

    Args:
        classes: number of logits.
        width: multiplies all channels.
        input_size: side of the square input in pixels.
        input_channels: of the input.
        blocks: (channel multiple, stride) of each block.
        stem_channels: channels of the stem at width 1.
        stem_stride: None is 2 from 64 pixels on, else 1.
        stem_activation: put a PReLU behind the stem's BatchNorm.
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
        ValueError: when an argument is out of range, or a block's channels neither keep nor
            double those before it.
    """
    parts.check_sizes(classes, width, input_size)
    parts.check_rows(blocks, "blocks", ("channel multiple", "stride"))

    def channels(multiple: int) -> int:
        return parts.round_channels(stem_channels * width * multiple, channel_divisor)

    first = parts.stem_stride(stem_stride, input_size, large=2)
    image = layers.Input((input_size, input_size, input_channels), name="image")
    x = parts.stem(image, channels(1), 3, first, stem_activation)
    conv = parts.Convolutions(binary, max_block, activation_quantizer, kernel_quantizer, thresholds)
    for index, (multiple, stride) in enumerate(blocks, start=1):
        x = _block(conv, x, channels(multiple), stride, f"block{index}")
    return parts.classifier(image, x, classes, "mobilenet_v1_react", binary)


def mobilenet_v1_react_nano(*, classes: int = 10, input_size: int = 32, **arguments: Any) -> Any:
    """Build the small relative for 32-pixel images: six blocks on 12 channels, 5.6 MMAC.

    Args:
        classes: number of logits.
        input_size: side of the square input in pixels.
        **arguments: of `mobilenet_v1_react`.

    Returns:
        As `mobilenet_v1_react`.

    Raises:
        ValueError: as `mobilenet_v1_react`.
    """
    defaults = {
        "blocks": NANO,
        "stem_channels": 12,
        "stem_stride": 1,
        "stem_activation": True,
        "channel_divisor": 4,
    }
    return mobilenet_v1_react(classes=classes, input_size=input_size, **{**defaults, **arguments})


def _block(conv: parts.Convolutions, x: Any, channels: int, stride: int, name: str) -> Any:
    before = x.shape[-1]
    if channels not in (before, 2 * before):
        raise ValueError(
            "`blocks` must keep or double the channels, as rounded at this width. Received: "
            f"{before} -> {channels} in {name}"
        )
    shortcut = x
    if stride != 1:
        shortcut = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut")(x)
    y = conv.sign(x, f"{name}_sign3x3")
    y = conv.convolve(y, before, 3, stride, f"{name}_conv3x3")
    y = parts.batchnorm(f"{name}_bn3x3")(y)
    y = layers.Add(name=f"{name}_add3x3")([y, shortcut])
    x = RPReLU(name=f"{name}_rprelu3x3")(y)

    y = conv.sign(x, f"{name}_sign1x1")
    branches = []
    # Binary convolutions cannot double channels inside a shortcut, so two share its input.
    for suffix in ("",) if channels == before else ("a", "b"):
        z = conv.convolve(y, before, 1, 1, f"{name}_conv1x1{suffix}")
        z = parts.batchnorm(f"{name}_bn1x1{suffix}")(z)
        branches.append(layers.Add(name=f"{name}_add1x1{suffix}")([z, x]))
    if len(branches) == 1:
        (x,) = branches
    else:
        x = layers.Concatenate(name=f"{name}_concat")(branches)
    return RPReLU(name=f"{name}_rprelu1x1")(x)
