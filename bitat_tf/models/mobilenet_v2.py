"""MobileNetV2's inverted residuals (Sandler et al. 2018, arXiv 1801.04381), pointwise binary.

The pointwise convolutions, which do nearly all the work, are binary; the 3x3 depthwise ones sum
nine values per output and stay float, as do the stem and the classifier.

    x -> RSign -> conv 1x1, c to t c -> BN -> + (x, repeated t times) -> RPReLU
      -> depthwise 3x3 -> BN
      -> RSign -> conv 1x1, t c to c' -> BN -> + shortcut

This arrangement is ours; we know of no published one to follow. Its reasons:

- A binary convolution sees signs only, so each has a way past it for the reals (Bi-Real, arXiv
  1808.00278). Expansion is what ReActNet (arXiv 2003.03488) does where it doubles channels:
  copies of the input, each with a convolution's output added; here t of them, and their t
  convolutions are one with t c outputs. Projection has MobileNetV2's own shortcut, x; where the
  block changes its shape, that is average-pooled and projected by a float 1x1 convolution with
  BatchNorm (Bi-Real's).
- No activation on the bottleneck, as in MobileNetV2: the sum goes on as it is.
- None behind the depthwise convolution either: its only reader is a sign, and a sign behind a
  rising function is a sign with another threshold. The float twin needs one there, and has
  MobileNetV2's: a ReLU, without the cap at 6, which was for 8-bit numbers.
- The last 1x1 convolution (320 to 1280) expands in the same way, by 4. The published network
  keeps 1280 where `width` is below 1; here that layer narrows with the others.
"""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.layers import RPReLU
from bitat_tf.models import parts
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER

layers = keras.layers

Stages = tuple[tuple[int, int, int, int], ...]
"""For each stage: expansion t, output channels, blocks, stride of the first."""

MOBILENET_V2: Stages = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of arXiv 1801.04381."""

NANO: Stages = ((4, 24, 2, 2), (4, 48, 2, 2), (4, 96, 2, 2))
"""The channels and strides of mobilenet_v1_react_nano."""


def mobilenet_v2(
    *,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    input_channels: int = 3,
    stages: Stages = MOBILENET_V2,
    head_expansion: int = 4,
    stem_channels: int = 32,
    stem_stride: int | None = None,
    stem_activation: bool = True,
    channel_divisor: int = 8,
    max_block: int = 1152,
    activation_quantizer: str = ACTIVATION_QUANTIZER,
    kernel_quantizer: str = KERNEL_QUANTIZER,
    thresholds: int = 1,
    binary: bool = True,
    name: str = "mobilenet_v2",
) -> Any:
    """Build the network, by default MobileNetV2 1.0 (arXiv 1801.04381).

    Args:
        classes: number of logits.
        width: multiplies all channels.
        input_size: side of the square input in pixels.
        input_channels: of the input.
        stages: (expansion, output channels at width 1, blocks, stride of the first block) of
            each stage.
        head_expansion: channels of the last 1x1 convolution, in multiples of the last stage's.
        stem_channels: channels of the stem at width 1.
        stem_stride: None is 2 from 64 pixels on, else 1.
        stem_activation: put a PReLU behind the stem's BatchNorm.
        channel_divisor: channels are rounded to multiples of it, and are at least it.
        max_block: largest block of the layers' transforms.
        activation_quantizer, kernel_quantizer: of the binary layers, by name
            (`bitat_tf.quantizers`).
        thresholds: bits that each sign makes of a channel (`RSign`); the float twin has none.
        binary: False builds the float twin.
        name: of the model.

    Returns:
        A Keras functional model from images (batch, input_size, input_size, input_channels),
        standardised, to logits (batch, classes).

    Raises:
        ValueError: when an argument is out of range.
    """
    parts.check_sizes(classes, width, input_size)
    parts.check_rows(stages, "stages", ("expansion", "channels", "blocks", "stride"))

    def channels(exact: int) -> int:
        return parts.round_channels(exact * width, channel_divisor)

    first = parts.stem_stride(stem_stride, input_size, large=2)
    image = layers.Input((input_size, input_size, input_channels), name="image")
    x = parts.stem(image, channels(stem_channels), 3, first, stem_activation)
    conv = parts.Convolutions(binary, max_block, activation_quantizer, kernel_quantizer, thresholds)
    for stage, (expansion, outputs, blocks, stride) in enumerate(stages, start=1):
        for block in range(1, blocks + 1):
            label = f"stage{stage}_block{block}"
            x = _block(conv, x, expansion, channels(outputs), stride if block == 1 else 1, label)
    x = _expand(conv, x, head_expansion, "head")
    return parts.classifier(image, x, classes, name, binary)


def mobilenet_v2_nano(*, classes: int = 10, input_size: int = 32, **arguments: Any) -> Any:
    """Build the small relative for 32-pixel images: six blocks on 24 to 96 channels.

    7.9 MMAC, 6.8 of them binary.

    Args:
        classes: number of logits.
        input_size: side of the square input in pixels.
        **arguments: of `mobilenet_v2`.

    Returns:
        As `mobilenet_v2`.

    Raises:
        ValueError: as `mobilenet_v2`.
    """
    defaults = {
        "stages": NANO,
        "stem_channels": 12,
        "stem_stride": 1,
        "channel_divisor": 4,
        "name": "mobilenet_v2_nano",
    }
    return mobilenet_v2(classes=classes, input_size=input_size, **{**defaults, **arguments})


def _block(
    conv: parts.Convolutions, x: Any, expansion: int, channels: int, stride: int, name: str
) -> Any:
    y = _expand(conv, x, expansion, f"{name}_expand") if expansion > 1 else x
    y = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(
        y
    )
    y = parts.batchnorm(f"{name}_depthwise_bn")(y)
    y = conv.sign(y, f"{name}_project_sign", inactive="relu")
    y = conv.convolve(y, channels, 1, 1, f"{name}_project_conv")
    y = parts.batchnorm(f"{name}_project_bn")(y)
    return layers.Add(name=f"{name}_add")([y, parts.shortcut(x, channels, stride, name)])


def _expand(conv: parts.Convolutions, x: Any, times: int, name: str) -> Any:
    y = conv.sign(x, f"{name}_sign")
    y = conv.convolve(y, times * x.shape[-1], 1, 1, f"{name}_conv")
    y = parts.batchnorm(f"{name}_bn")(y)
    copies = layers.Concatenate(name=f"{name}_copies")([x] * times) if times > 1 else x
    y = layers.Add(name=f"{name}_add")([y, copies])
    return RPReLU(name=f"{name}_rprelu")(y)
