"""From encoded images to squares of one size, deterministically.

As ResNet is trained and tested on ImageNet: a random part of the image in training, a square at
its center otherwise, resized (bilinear, without antialiasing). A JPEG is decoded only where it
is looked at. Every function takes the bytes of one image and is pure; one that cannot be
decoded raises a TensorFlow error, which `encoded` turns into a skipped image.

`tf.image` and not KerasCV's `RandomCropAndResize`: that layer takes batches of decoded images of
one size, which these are not, and draws from a generator with a state (see `augment`).
"""

from typing import Any

from bitat_tf._keras import tf

# Aspect ratios of the random part, and how often to try for one that fits: ResNet's.
_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def center_square(content: tf.Tensor, *, size: int, channels: int, share: float) -> tf.Tensor:
    """The square at the center of an image.

    Args:
        content: bytes of a JPEG, PNG, BMP or GIF (its first frame), a scalar string.
        size: side of the result.
        channels: of the result, 1 or 3.
        share: side of the square over the shorter side of the image.

    Returns:
        uint8 (size, size, channels).
    """

    def box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        shorter = tf.cast(tf.minimum(height, width), tf.float32)
        side = tf.maximum(1, tf.cast(tf.round(share * shorter), tf.int32))
        return tf.stack([(height - side) // 2, (width - side) // 2, side, side])

    return _resize(_decode(content, channels, box), size)


def random_part(
    content: tf.Tensor, seed: tf.Tensor, *, size: int, channels: int, area: float
) -> tf.Tensor:
    """A random part of an image, its sides in a ratio of 3:4 to 4:3, resized to a square.

    Args:
        content: as of `center_square`.
        seed: two integers.
        size: side of the result.
        channels: of the result, 1 or 3.
        area: the least share of the image that the part takes; the most is all.

    Returns:
        uint8 (size, size, channels).
    """

    def box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, channels]),
            bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=seed,
            min_object_covered=0.0,
            aspect_ratio_range=_ASPECTS,
            area_range=(area, 1.0),
            max_attempts=_ATTEMPTS,
        )
        return tf.concat([begin[:2], extent[:2]], 0)

    return _resize(_decode(content, channels, box), size)


def _decode(content: tf.Tensor, channels: int, box: Any) -> tf.Tensor:
    """The part of an image that `box` (height, width -> top, left, height, width) chooses."""

    def jpeg() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(content)
        return tf.io.decode_and_crop_jpeg(content, box(shape[0], shape[1]), channels=channels)

    def other() -> tf.Tensor:
        image = tf.io.decode_image(content, channels=channels, expand_animations=False)
        shape = tf.shape(image)
        top, left, height, width = tf.unstack(box(shape[0], shape[1]))
        return image[top : top + height, left : left + width]

    image = tf.cond(tf.io.is_jpeg(content), jpeg, other)
    image.set_shape([None, None, channels])
    return image


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    # Between two 8-bit values: there is nothing to clip.
    return tf.cast(tf.round(tf.image.resize(image, [size, size])), tf.uint8)
