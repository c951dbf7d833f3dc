"""The crop is an exact shifted copy, the flip an exact mirror, both a function of the seed."""

import subprocess
import sys

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.data import augment

SEED = [3, 4]


def _noise(batch: int = 200, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, height, width, 3)).astype(np.float32)


def _corner(image: np.ndarray, cropped: np.ndarray, padding: int) -> tuple[int, int]:
    """The one position at which `cropped` is a window of the padded image."""
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, cropped.shape)[:, :, 0]
    found = np.argwhere((windows == cropped).all((2, 3, 4)))
    assert len(found) == 1
    return tuple(found[0])


@pytest.mark.parametrize("padding", [1, 2])
def test_a_crop_is_an_exact_window_of_the_zero_padded_image(padding):
    images = _noise()
    cropped = augment.random_crop(tf.constant(images), SEED, padding=padding).numpy()
    corners = [_corner(a, b, padding) for a, b in zip(images, cropped, strict=True)]
    assert set(corners) == set(np.ndindex(2 * padding + 1, 2 * padding + 1))


def test_crop_positions_are_equally_likely():
    rows = np.arange(1, 7, dtype=np.float32)[None, :, None, None]
    images = np.broadcast_to(rows, (20_000, 6, 8, 1))
    cropped = augment.random_crop(tf.constant(images), SEED, padding=2).numpy()
    shift = cropped[:, 3, 4, 0] - 4  # -2 .. 2
    shares = [(shift == value).mean() for value in range(-2, 3)]
    # Five standard deviations of a share of 1/5 among 20,000.
    np.testing.assert_allclose(shares, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 20_000))


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_rest():
    images = _noise(1000)
    flipped = augment.random_flip(tf.constant(images), SEED).numpy()
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_augmentation_is_a_function_of_its_seed():
    images = tf.constant(_noise(20))

    def augmented(seed):
        return augment.augment(images, seed, crop_padding=2, flip=True).numpy()

    np.testing.assert_array_equal(augmented(SEED), augmented(SEED))
    assert (augmented(SEED) != augmented([3, 5])).any()
    unchanged = augment.augment(images, SEED, crop_padding=0, flip=False)
    np.testing.assert_array_equal(unchanged, images)


def test_keras_cvs_own_crop_still_skips_pixels():
    """Why `random_crop` exists; when this fails, KerasCV's layer may take its place."""
    size, padded = 32, 40
    rows = np.arange(padded, dtype=np.float32)[None, :, None, None]
    images = np.broadcast_to(rows, (500, padded, padded, 1))
    crop = augment.import_keras_cv().layers.RandomCrop(size, size, seed=1)
    cropped = crop(tf.constant(images), training=True).numpy()[:, :, 0, 0]
    skipped = (np.diff(cropped, axis=1) != 1).any(1)
    assert skipped.mean() > 0.1


def test_importing_keras_cv_prints_nothing():
    code = "from bitat_tf.data import augment; augment.prepare(flip=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
