"""KerasCV's operations, each image its own, as a function of the seed."""

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.data import rand_augment

SEED = [1, 2]


def _images(batch: int = 40) -> np.ndarray:
    """Colourful, smooth, of middling contrast: every operation shows on them."""
    rng = np.random.default_rng(0)
    small = rng.uniform(30, 220, (batch, 4, 4, 3))
    return tf.cast(tf.image.resize(small, [16, 16]), tf.uint8).numpy()


@pytest.fixture(scope="module")
def augment():
    traced = tf.function(
        lambda images, seed, layers: rand_augment.rand_augment(
            images, seed, magnitude=0.5, layers=layers
        )
    )
    rand_augment.prepare(0.5)
    return lambda images, seed, layers=1: traced(images, tf.constant(seed), layers).numpy()


def test_most_images_change_and_stay_images(augment):
    images = _images()
    changed = augment(images, SEED, 2)
    assert changed.shape == images.shape
    assert np.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (np.abs(changed - images).max((1, 2, 3)) > 1).mean() > 0.8


def test_it_is_a_function_of_the_seed(augment):
    images = _images()
    np.testing.assert_array_equal(augment(images, SEED), augment(images, SEED))
    assert (augment(images, SEED) != augment(images, [1, 3])).any()


def test_a_small_batch_leaves_most_operations_without_images(augment):
    assert augment(_images(2), SEED, 2).shape == (2, 16, 16, 3)


def test_the_policy_has_the_operations_that_are_drawn_for():
    names = [type(layer).__name__ for layer in rand_augment._layers(0.5)]
    assert names == [
        "AutoContrast",
        "Equalization",
        "Solarization",
        "RandomColorDegeneration",
        "RandomContrast",
        "RandomBrightness",
        "RandomShear",
        "RandomShear",
        "RandomTranslation",
        "RandomTranslation",
    ]


@pytest.mark.parametrize("index", range(10))
def test_each_operation_changes_its_images_differently(index):
    layer, draw = rand_augment._layers(0.5)[index], rand_augment._draws(0.5)[index]
    one = np.repeat(_images(1), 8, 0).astype(np.float32)
    changed = rand_augment._apply(layer, draw, tf.constant(one), tf.constant(SEED)).numpy()
    assert (np.abs(changed - one).max((1, 2, 3)) > 1).any()
    if index > 1:  # AutoContrast and Equalization draw nothing
        assert len(np.unique(changed.reshape(8, -1).round(2), axis=0)) > 4


def test_stronger_magnitudes_change_more():
    images = _images(200)
    changes = [
        np.abs(
            rand_augment.rand_augment(images, SEED, magnitude=m, layers=1).numpy() - images
        ).mean()
        for m in (0.1, 0.8)
    ]
    assert changes[1] > 1.5 * changes[0]
