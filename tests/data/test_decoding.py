"""What is cut out of an encoded image, and that its bytes and seed decide it."""

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.data import decoding


def _ramp(height: int, width: int) -> np.ndarray:
    """Rows in the first channel, columns in the second."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], -1).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (30, 16), (17, 40)])
def test_the_center_square_is_the_pixels_of_the_center_where_nothing_is_resized(height, width):
    image = _ramp(height, width)
    content = tf.io.encode_png(image)
    side = min(height, width)
    square = decoding.center_square(content, size=side, channels=3, share=1.0).numpy()
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(square, image[top : top + side, left : left + side])


def test_the_share_is_of_the_shorter_side():
    content = tf.io.encode_png(_ramp(64, 200))
    square = decoding.center_square(content, size=56, channels=3, share=0.875).numpy()
    np.testing.assert_array_equal(square[:, 0, 0], np.arange(4, 60))
    np.testing.assert_array_equal(square[0, :, 1], np.arange(72, 128))


def test_a_jpeg_is_cut_as_any_other_image():
    smooth = tf.cast(tf.image.resize(_ramp(8, 12), [80, 120]) * 10, tf.uint8)
    squares = [
        decoding.center_square(content, size=32, channels=3, share=0.8).numpy().astype(int)
        for content in (tf.io.encode_jpeg(smooth, quality=100), tf.io.encode_png(smooth))
    ]
    # What JPEG loses of a smooth image at quality 100: a few grey levels.
    assert np.abs(squares[0] - squares[1]).max() <= 6


def test_grey_files_give_three_channels_and_the_other_way_round():
    grey = tf.io.encode_png(_ramp(20, 20)[..., :1])
    assert decoding.center_square(grey, size=8, channels=3, share=1.0).shape == (8, 8, 3)
    assert decoding.center_square(grey, size=8, channels=1, share=1.0).shape == (8, 8, 1)


def _extents(area: float, draws: int = 200) -> np.ndarray:
    """Height and width of random parts of a 100 x 100 image, from what the ends show."""
    content = tf.io.encode_png(_ramp(100, 100))
    found = []
    for index in range(draws):
        part = decoding.random_part(content, [1, index], size=100, channels=3, area=area)
        ends = part.numpy().astype(float)
        found.append([np.ptp(ends[..., 0]) + 1, np.ptp(ends[..., 1]) + 1])
    return np.array(found)


def test_random_parts_keep_to_area_and_aspect():
    extents = _extents(0.25)
    shares = extents.prod(1) / 100**2
    # A pixel more or less on either side.
    assert shares.min() > 0.22
    assert shares.max() <= 1.0
    assert np.ptp(shares) > 0.5
    aspects = extents[:, 1] / extents[:, 0]
    assert aspects.min() > 0.72
    assert aspects.max() < 1.38
    assert np.ptp(aspects) > 0.4


def test_a_random_part_is_a_function_of_its_seed():
    content = tf.io.encode_png(_ramp(60, 80))

    def part(seed):
        return decoding.random_part(content, seed, size=16, channels=3, area=0.1).numpy()

    np.testing.assert_array_equal(part([3, 4]), part([3, 4]))
    assert (part([3, 4]) != part([3, 5])).any()
    assert (part([3, 4]) != part([2, 4])).any()


def test_what_is_no_image_raises():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.center_square(tf.constant(b"nothing"), size=8, channels=3, share=1.0)
