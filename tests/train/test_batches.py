import itertools

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.train.batches import take_images, take_labelled

IMAGES = [np.full((2, 1, 1, 1), i, "float32") for i in range(5)]
LABELS = [np.array([i, i + 1]) for i in range(5)]


def test_labels_stay_with_their_images():
    images, labels = take_labelled(zip(IMAGES, LABELS, strict=True), 3)
    np.testing.assert_array_equal(images, IMAGES[:3])
    np.testing.assert_array_equal(labels, LABELS[:3])


def test_a_data_set_gives_what_a_list_of_its_batches_gives():
    dataset = tf.data.Dataset.from_tensor_slices((np.stack(IMAGES), np.stack(LABELS)))
    images, labels = take_labelled(dataset, 4)
    np.testing.assert_array_equal(images, IMAGES[:4])
    np.testing.assert_array_equal(labels, LABELS[:4])


def test_images_alone_have_no_labels():
    images, labels = take_labelled(IMAGES, 9)
    assert labels is None
    np.testing.assert_array_equal(images, take_images(IMAGES, 9))


def test_no_more_batches_are_read_than_asked_for():
    source = itertools.count()
    take_labelled(((IMAGES[0], LABELS[0]) for _ in source), 2)
    assert next(source) == 2


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        take_labelled([], 3)


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
def test_an_array_of_images_is_cut_into_batches(kind):
    images = np.arange(300, dtype="float32").reshape(300, 1, 1, 1)
    batches = take_images(kind(images), 8)
    assert [len(batch) for batch in batches] == [128, 128, 44]
    np.testing.assert_array_equal(np.concatenate(batches), images)
    assert len(take_images(kind(images), 2)) == 2


def test_arrays_of_images_and_labels_are_cut_alike():
    images = np.arange(130, dtype="float32").reshape(130, 1, 1, 1)
    labels = np.arange(130)
    found, classes = take_labelled((images, labels), 8)
    assert [len(batch) for batch in found] == [128, 2]
    np.testing.assert_array_equal(np.concatenate(classes), labels)
    with pytest.raises(ValueError, match="130 images, 100 labels"):
        take_images((images, labels[:100]), 8)


def test_two_batches_in_a_tuple_stay_two_batches():
    np.testing.assert_array_equal(take_images(tuple(IMAGES[:2]), 8), IMAGES[:2])
