"""RandAugment (arXiv 1909.13719) with KerasCV's operations, as a pure function of a seed.

KerasCV's `RandAugment` picks an operation per image and draws its strength from generators with
a state (see `augment`), image by image. Here the operations, their ranges and their image
arithmetic are KerasCV's own (`RandAugment.get_standard_policy`), but what is drawn is drawn
statelessly, and each operation sees all the images that drew it at once: on small images the
overhead of one call per image would be most of the cost. In training only.
"""

import functools
from collections.abc import Callable
from typing import Any

from bitat_tf._keras import tf
from bitat_tf.data.augment import import_keras_cv
from bitat_tf.quiet import errors_only

# KerasCV's default spread of the normal distributions.
_SPREAD = 0.15
_WHITE = 255.0
# Above it, adding before a solarization would leave nothing of the image (KerasCV).
_MOST_ADDED = 110.0

# (number of images, seed) -> what the layer's `augment_images` takes
Draw = Callable[[tf.Tensor, tf.Tensor], Any]


@functools.cache
def _layers(magnitude: float) -> tuple[Any, ...]:
    layers = import_keras_cv().layers
    # The seed only keeps the layers off TensorFlow's global generator; they draw nothing.
    return tuple(layers.RandAugment.get_standard_policy((0, _WHITE), magnitude, _SPREAD, seed=1))


def prepare(magnitude: float) -> None:
    """Build what `rand_augment` needs before it is traced into a graph."""
    if magnitude:
        _layers(magnitude)


def _draws(magnitude: float) -> tuple[Draw, ...]:
    """How to draw for each of the layers, in their order."""

    def normal(mean: float, scale: float, shape: list[int]) -> Draw:
        def draw(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            values = tf.random.stateless_normal([count, *shape], seed, mean, _SPREAD)
            return tf.clip_by_value(values, 0.0, 1.0) * scale

        return draw

    def uniform(low: float, high: float, shape: list[int]) -> Draw:
        return lambda count, seed: tf.random.stateless_uniform([count, *shape], seed, low, high)

    def nothing(count: tf.Tensor, seed: tf.Tensor) -> None:
        return None

    def solarize(count: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        seeds = tf.random.split(seed, 2)
        return {
            "additions": normal(magnitude, _MOST_ADDED, pixel)(count, seeds[0]),
            "thresholds": normal(1.0 - magnitude, _WHITE, pixel)(count, seeds[1]),
        }

    def shear(axis: str) -> Draw:
        def draw(count: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor | None]:
            seeds = tf.random.split(seed, 2)
            side = tf.sign(tf.random.stateless_uniform([count, 1], seeds[1], -1.0, 1.0))
            drawn = side * normal(magnitude, 1.0, [1])(count, seeds[0])
            return {"shear_x": None, "shear_y": None, f"shear_{axis}": drawn}

        return draw

    def translate(axis: str) -> Draw:
        def draw(count: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
            drawn = uniform(-magnitude, magnitude, [1])(count, seed)
            still = {f"{name}_translations": tf.zeros_like(drawn) for name in ("width", "height")}
            return still | {f"{axis}_translations": drawn}

        return draw

    pixel = [1, 1, 1]
    return (
        nothing,  # AutoContrast
        nothing,  # Equalization
        solarize,
        normal(magnitude, 1.0, pixel),  # RandomColorDegeneration
        uniform(1.0 - magnitude, 1.0 + magnitude, pixel),  # RandomContrast
        uniform(-magnitude * _WHITE, magnitude * _WHITE, pixel),  # RandomBrightness
        shear("x"),
        shear("y"),
        translate("width"),
        translate("height"),
    )


def rand_augment(images: tf.Tensor, seed: tf.Tensor, *, magnitude: float, layers: int) -> tf.Tensor:
    """Apply `layers` random operations to each image, one after the other.

    Args:
        images: (batch, height, width, 3), values 0..255.
        seed: two integers.
        magnitude: strength of the operations, in (0, 1].
        layers: operations per image.

    Returns:
        float32 images of the same shape and range.
    """
    images = tf.cast(images, tf.float32)
    # TensorFlow warns that KerasCV's histograms (Equalization) are made in a loop.
    with errors_only("tensorflow"):
        for of_layer in tf.unstack(tf.random.split(seed, layers)):
            images = _one_operation(images, of_layer, magnitude)
    return images


def _one_operation(images: tf.Tensor, seed: tf.Tensor, magnitude: float) -> tf.Tensor:
    """An operation for each image, the images of one operation together."""
    operations, draws = _layers(magnitude), _draws(magnitude)
    of_choice, *of_draws = tf.unstack(tf.random.split(seed, 1 + len(operations)))
    places = tf.range(tf.shape(images)[0])
    choice = tf.random.stateless_uniform(tf.shape(places), of_choice, 0, len(operations), tf.int32)
    groups = tf.dynamic_partition(places, choice, len(operations))
    changed = [
        _apply(operation, draw, tf.gather(images, group), of_draw)
        for operation, draw, group, of_draw in zip(operations, draws, groups, of_draws, strict=True)
    ]
    return tf.ensure_shape(tf.dynamic_stitch(groups, changed), images.shape)


def _apply(operation: Any, draw: Draw, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    count = tf.shape(images)[0]
    return tf.cond(
        count > 0,
        lambda: tf.ensure_shape(
            operation.augment_images(images, transformations=draw(count, seed)), images.shape
        ),
        lambda: images,
    )
