"""BiTAT against plain STE on a network of one's own, through `bitat.binarize`.

    python tools/compare_own_model.py --dataset cifar10 --data-dir DIR --seeds 0 1 2 \\
        [--methods bitat ste] [--learning-rates 3e-3 1e-2] [--steps 1600] [--out docs/results]

`own_cnn` below is none of the package's backbones: plain Keras, with a stem, residual blocks
that double their channels by strided convolutions, and `+` for their sums. For each seed it is
trained in float, and each student is `binarize` of it with its weights. All else is
`compare_methods.py`: data, steps, records, table and figure; `--set` changes the recipe, and
`--set "model.arguments={without: [shortcut]}"` leaves rules of `binarize` out.

Cost with `cifar10-nano` as the recipe: own_cnn has 13 MMAC at 32 x 32, twice the nano net.
"""

import sys
from collections.abc import Sequence
from typing import Any

import compare_methods

import bitat_tf as bitat
from bitat_tf._keras import keras, tf
from bitat_tf.binarize import without as rules_without

NAME = "own_cnn"

layers = keras.layers


def own_cnn(classes: int, input_size: int, input_channels: int, width: int) -> Any:
    """A small residual network as anybody would write it: float, logits out."""
    image = keras.Input((input_size, input_size, input_channels), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    for stage, stride in enumerate((1, 2, 2)):
        channels, name = width * 2**stage, f"stage{stage}"
        y = layers.Conv2D(channels, 3, stride, padding="same", name=f"{name}_a")(x)
        y = layers.ReLU(name=f"{name}_a_relu")(layers.BatchNormalization(name=f"{name}_a_bn")(y))
        y = layers.Conv2D(channels, 3, padding="same", name=f"{name}_b")(y)
        y = layers.BatchNormalization(name=f"{name}_b_bn")(y)
        if stride != 1:
            x = layers.Conv2D(channels, 1, stride, name=f"{name}_project")(x)
        x = layers.ReLU(name=f"{name}_relu")(x + y)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name=NAME)


def build(
    *,
    classes: int,
    input_size: int,
    input_channels: int = 3,
    width: int = 16,
    without: Sequence[str] = (),
    binary: bool = True,
    **options: Any,
) -> Any:
    """As the backbones of `bitat_tf.models` are built; the student by `binarize`.

    Args:
        classes, input_size, input_channels: of the data.
        width: channels of the stem.
        without: names of rules that `binarize` is to leave out.
        binary: the student; else the float network.
        **options: of `binarize`, such as the quantizers.
    """
    model = own_cnn(classes, input_size, input_channels, width)
    if not binary:
        return model
    return bitat.binarize(model, rules=rules_without(*without), **options)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out, write, print."""
    bitat.models.register(NAME, build)
    given = list(sys.argv[1:] if argv is None else argv)
    ours = ["--set", f"model.name={NAME}"]
    if "--methods" not in given:
        ours += ["--methods", "bitat", "ste"]
    if "--title" not in given:
        ours += ["--title", "own-model"]
    return compare_methods.main([*ours, *given], tool="compare_own_model.py", shown=given)


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
