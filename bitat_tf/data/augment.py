"""Random crops and flips of a batch, as pure functions of the images and a seed.

KerasCV's layers draw from a `tf.random.Generator`, whose state a `tf.data` pipeline neither
resets per iterator nor orders across parallel calls. So the random numbers are drawn
here, statelessly, and handed to the layer's own transformation: the same seed gives the same
batch, in any process, from any step on.

The flip is KerasCV's. Its `RandomCrop` (0.9) is not used: it hands fractional boxes, divided
by the size rather than the size - 1, to `crop_and_resize`, so that 38 % of the 32x32 crops out
of 40x40 skip a row or a column (tests/data/test_augment.py). `random_crop` gathers whole pixels.

Images are padded after standardisation, with zeros: a pad pixel is the mean pixel of the
training images, the usual convention on CIFAR. All this runs in training only.
"""

import contextlib
import functools
import io
from typing import Any

from bitat_tf._keras import quiet_import, tf


def import_keras_cv() -> Any:
    """KerasCV, without the line its backend prints on import; other output is passed on."""
    printed = io.StringIO()
    with quiet_import(), contextlib.redirect_stdout(printed):
        import keras_cv
    for line in printed.getvalue().splitlines():
        if line != "Using TensorFlow backend":
            print(line)
    return keras_cv


@functools.cache
def _flip_layer() -> Any:
    # The seed only keeps the layer off TensorFlow's global generator; it draws nothing.
    return import_keras_cv().layers.RandomFlip("horizontal", rate=0.5, seed=1)


def prepare(*, flip: bool) -> None:
    """Build what `augment` needs before it is traced into a graph (KerasCV takes seconds)."""
    if flip:
        _flip_layer()


def random_crop(images: tf.Tensor, seed: tf.Tensor, *, padding: int) -> tf.Tensor:
    """Pad each image with zeros and cut it back to size at a random whole-pixel position.

    Args:
        images: (batch, height, width, channels).
        seed: two integers.
        padding: pixels added on each side; all (2 padding + 1)^2 positions are equally likely.

    Returns:
        Images of the same shape and type.
    """
    batch, (height, width) = tf.shape(images)[0], images.shape[1:3]
    margin = [padding, padding]
    padded = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
    corner = tf.random.stateless_uniform([batch, 2], seed, 0, 2 * padding + 1, tf.int32)
    rows = corner[:, :1] + tf.range(height)
    columns = corner[:, 1:] + tf.range(width)
    # One gather of all pixels by their flat position is faster than rows, then columns.
    position = rows[:, :, tf.newaxis] * (width + 2 * padding) + columns[:, tf.newaxis, :]
    channels = images.shape[3]
    pixels = tf.reshape(padded, [batch, -1, channels])
    cropped = tf.gather(pixels, tf.reshape(position, [batch, -1]), batch_dims=1)
    return tf.reshape(cropped, [batch, height, width, channels])


def random_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror every other image, at random, left to right.

    Args:
        images: (batch, height, width, channels).
        seed: two integers.
    """
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1], seed)
    numbers = {"flip_horizontals": draws, "flip_verticals": tf.zeros_like(draws)}
    return _flip_layer().augment_images(images, numbers)


def augment(images: tf.Tensor, seed: tf.Tensor, *, crop_padding: int, flip: bool) -> tf.Tensor:
    """Crop and flip a batch of standardised images at random.

    Args:
        images: (batch, height, width, channels).
        seed: two integers; the result is a pure function of them and the images.
        crop_padding: as `random_crop`'s padding; 0 leaves the crop out.
        flip: whether to mirror at random too.
    """
    seeds = tf.random.split(seed, 2)
    if crop_padding:
        images = random_crop(images, seeds[0], padding=crop_padding)
    if flip:
        images = random_flip(images, seeds[1])
    return images
