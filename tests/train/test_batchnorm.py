import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.train import accuracy, recompute_batchnorm


def test_statistics_become_the_data_s_own_bottom_to_top(tiny_student, images):
    layers = [
        layer for layer in tiny_student.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    count = recompute_batchnorm(tiny_student, [images[:100], images[100:]], 2)
    assert count == len(layers)
    for layer in layers:
        x = keras.Model(tiny_student.input, layer.input)(images).numpy()
        np.testing.assert_allclose(layer.moving_mean, x.mean((0, 1, 2)), atol=1e-3)
        np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-3, atol=1e-5)


def test_only_the_asked_number_of_batches_is_read(tiny_student, images):
    recompute_batchnorm(tiny_student, [images[:64], images[64:]], 1)
    bn = tiny_student.get_layer("stem_bn")
    x = keras.Model(tiny_student.input, bn.input)(images[:64]).numpy()
    np.testing.assert_allclose(bn.moving_mean, x.mean((0, 1, 2)), atol=1e-4)


def test_an_empty_data_set_is_refused(tiny_student):
    with pytest.raises(ValueError, match="is empty"):
        recompute_batchnorm(tiny_student, [], 2)


def test_accuracy_counts_hits_over_uneven_batches():
    data = [(np.eye(3), np.array([0, 1, 0])), (np.eye(3)[:1], np.array([0]))]
    assert accuracy(lambda x: x, data) == pytest.approx(3 / 4)


def test_accuracy_refuses_nothing_and_nan():
    with pytest.raises(ValueError, match="empty"):
        accuracy(lambda x: x, [])
    with pytest.raises(FloatingPointError, match="not finite"):
        accuracy(lambda x: x, [(np.array([[np.nan, 0.0]]), np.array([0]))])
