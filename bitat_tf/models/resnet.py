"""ResNets of 3x3 convolutions in Bi-Real's form with ReActNet's activations.

Every binary convolution stands inside a shortcut of its own (Liu et al. 2018, arXiv 1808.00278),
with RSign in front and RPReLU behind the sum (Liu et al. 2020, arXiv 2003.03488):

    x -> RSign -> conv 3x3 -> BN -> + (x; where the shape changes, average-pooled -> float
         1x1 conv -> BN) -> RPReLU

So one of He's basic blocks (arXiv 1512.03385) is two of these, and ResNet-18 has sixteen. As
published, nothing stands between the stem and the first sign but BatchNorm and pooling.

The ResNet-20 of that paper takes every second pixel and pads with zero channels where shapes
change; here it has the same shortcut as ResNet-18, whose float convolutions cost 2,560 weights.
"""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.layers import RPReLU
from bitat_tf.models import parts
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER
from bitat_tf.records import check

layers = keras.layers

Stages = tuple[tuple[int, int], ...]
"""For each stage: channels in multiples of the stem's, 3x3 convolutions; all but the first begin
with stride 2.
"""

RESNET_18: Stages = ((1, 4), (2, 4), (4, 4), (8, 4))
"""ResNet-18 (arXiv 1512.03385)."""

RESNET_20: Stages = ((1, 6), (2, 6), (4, 6))
"""ResNet-20, the paper's own for 32-pixel images."""


def resnet18(
    *,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    input_channels: int = 3,
    stages: Stages = RESNET_18,
    stem_channels: int = 64,
    stem_stride: int | None = None,
    stem_activation: bool = False,
    channel_divisor: int = 32,
    max_block: int = 1152,
    activation_quantizer: str = ACTIVATION_QUANTIZER,
    kernel_quantizer: str = KERNEL_QUANTIZER,
    thresholds: int = 1,
    binary: bool = True,
    name: str = "resnet18",
) -> Any:
    """Build the network, by default ResNet-18 (arXiv 1512.03385) in Bi-Real's form.

    Args:
        classes: number of logits.
        width: multiplies all channels.
        input_size: side of the square input in pixels.
        input_channels: of the input.
        stages: (channel multiple, 3x3 convolutions) of each stage; all but the first begin
            with stride 2.
        stem_channels: channels of the stem at width 1.
        stem_stride: 1 is a 3x3 convolution, 2 a 7x7 one with stride 2, 4 that and a 3x3 max
            pooling with stride 2. None is 4 from 64 pixels on, else 1.
        stem_activation: put a PReLU behind the stem's BatchNorm.
        channel_divisor: channels are rounded to multiples of it, and are at least it; LCE
            packs 32 channels into one word.
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
    parts.check_rows(stages, "stages", ("channel multiple", "convolutions"))
    shrink = parts.stem_stride(stem_stride, input_size, large=4)
    check(shrink in (1, 2, 4), "stem_stride", "1, 2 or 4", stem_stride)

    def channels(multiple: int) -> int:
        return parts.round_channels(stem_channels * width * multiple, channel_divisor)

    image = layers.Input((input_size, input_size, input_channels), name="image")
    size, stride = (3, 1) if shrink == 1 else (7, 2)
    x = parts.stem(image, channels(1), size, stride, stem_activation)
    if shrink == 4:
        x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    conv = parts.Convolutions(binary, max_block, activation_quantizer, kernel_quantizer, thresholds)
    for stage, (multiple, convolutions) in enumerate(stages, start=1):
        for block in range(1, convolutions + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(conv, x, channels(multiple), stride, f"stage{stage}_block{block}")
    return parts.classifier(image, x, classes, name, binary)


def resnet20(*, classes: int = 10, input_size: int = 32, **arguments: Any) -> Any:
    """Build ResNet-20, the small one for 32-pixel images: 18 binary convolutions on 16 to 64
    channels, 41 MMAC.

    Args:
        classes: number of logits.
        input_size: side of the square input in pixels.
        **arguments: of `resnet18`.

    Returns:
        As `resnet18`.

    Raises:
        ValueError: as `resnet18`.
    """
    defaults = {
        "stages": RESNET_20,
        "stem_channels": 16,
        "channel_divisor": 8,
        "name": "resnet20",
    }
    return resnet18(classes=classes, input_size=input_size, **{**defaults, **arguments})


def _block(conv: parts.Convolutions, x: Any, channels: int, stride: int, name: str) -> Any:
    y = conv.sign(x, f"{name}_sign")
    y = conv.convolve(y, channels, 3, stride, f"{name}_conv")
    y = parts.batchnorm(f"{name}_bn")(y)
    y = layers.Add(name=f"{name}_add")([y, parts.shortcut(x, channels, stride, name)])
    return RPReLU(name=f"{name}_rprelu")(y)
