"""Labels stay distributions, and say what share of which image is seen."""

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.data import mixing

SEED = [5, 6]
BATCH, CLASSES = 64, 64


def _batch() -> tuple[tf.Tensor, tf.Tensor]:
    """Image i is filled with i, its class is i: a pixel says which image it is from."""
    index = tf.range(BATCH)
    images = tf.ones([BATCH, 10, 12, 3]) * tf.cast(index, tf.float32)[:, None, None, None]
    return images, mixing.smooth(index, CLASSES, 0.0)


def test_smoothing_spreads_its_share_over_all_classes():
    labels = mixing.smooth(tf.constant([2, 0]), 4, 0.1).numpy()
    np.testing.assert_allclose(labels, [[0.025, 0.025, 0.925, 0.025], [0.925] + 3 * [0.025]])


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 5.0])
def test_beta_has_the_moments_of_the_distribution(alpha):
    drawn = mixing.beta(alpha, tf.constant(20_000), SEED).numpy()
    assert np.isfinite(drawn).all()
    variance = 1 / (4 * (2 * alpha + 1))
    # Five standard deviations of a mean of 20,000; of a variance, about.
    assert drawn.mean() == pytest.approx(0.5, abs=5 * np.sqrt(variance / 20_000))
    assert drawn.var() == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize("mixed", [mixing.mixup, mixing.cutmix])
def test_labels_are_the_shares_of_the_images(mixed):
    images, labels = (t.numpy() for t in mixed(*_batch(), SEED, alpha=1.0))
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    # The mean pixel of image i is the sum of its parts' numbers, weighed by their shares.
    np.testing.assert_allclose(images.mean((1, 2, 3)), labels @ np.arange(CLASSES), rtol=1e-4)
    seen = (labels > 0).sum(1)
    assert seen.max() == 2
    assert (seen == 2).mean() > 0.7


def test_cutmix_pastes_one_rectangle():
    images, _ = (t.numpy() for t in mixing.cutmix(*_batch(), SEED, alpha=1.0))
    pasted = images[..., 0] != np.arange(BATCH)[:, None, None]
    for image, inside in zip(images, pasted, strict=True):
        if not inside.any():
            continue
        rows, columns = np.where(inside.any(1))[0], np.where(inside.any(0))[0]
        box = np.zeros_like(inside)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        np.testing.assert_array_equal(inside, box)
        assert len(np.unique(image[inside])) == 1


def test_mixing_is_a_function_of_its_seed_and_tosses_a_coin_between_the_two():
    batch = _batch()
    kinds = set()
    for index in range(12):
        images, labels = mixing.mix(*batch, [0, index], mixup_alpha=0.5, cutmix_alpha=0.5)
        again, _ = mixing.mix(*batch, [0, index], mixup_alpha=0.5, cutmix_alpha=0.5)
        np.testing.assert_array_equal(images, again)
        kinds.add(bool((images.numpy() == np.round(images.numpy())).all()))
        assert labels.shape == (BATCH, CLASSES)
    assert kinds == {True, False}  # CutMix leaves every pixel whole


def test_one_alpha_leaves_no_choice():
    batch = _batch()
    for index in range(3):
        images, _ = mixing.mix(*batch, [0, index], mixup_alpha=0.0, cutmix_alpha=1.0)
        np.testing.assert_array_equal(images, np.round(images))
