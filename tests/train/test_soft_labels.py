"""Labels as distributions: the same loss as class indices where they say the same."""

import numpy as np
import pytest

from bitat_tf._keras import keras, tf
from bitat_tf.train.distill import Distilled, hard_labels, optimizer_step, student_loss

LABELS = np.array([2, 0, 1, 2], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
TEACHER = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_onehot_labels_cost_what_indices_cost(weight):
    costs = [
        float(student_loss(labels, LOGITS, TEACHER, weight, 2.0))
        for labels in (LABELS, np.eye(3, dtype=np.float32)[LABELS])
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_the_loss_is_linear_in_the_labels():
    one, other = np.eye(3, dtype=np.float32)[LABELS], np.eye(3, dtype=np.float32)[LABELS[::-1]]
    mixed = student_loss(0.7 * one + 0.3 * other, LOGITS, None, 0.0, 1.0)
    parts = [float(student_loss(labels, LOGITS, None, 0.0, 1.0)) for labels in (one, other)]
    assert float(mixed) == pytest.approx(0.7 * parts[0] + 0.3 * parts[1], rel=1e-6)


def test_hard_labels_are_the_likeliest_classes():
    np.testing.assert_array_equal(hard_labels(LABELS), LABELS)
    np.testing.assert_array_equal(hard_labels(np.eye(3, dtype=np.float32)[LABELS]), LABELS)


def test_a_step_on_soft_labels_counts_hits_by_the_likeliest_class():
    inputs = keras.Input((3,))
    student = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="identity")(inputs))
    soft = 0.9 * np.eye(3, dtype=np.float32)[LABELS] + 0.1 / 3
    images = tf.constant(np.eye(3, dtype=np.float32)[[2, 0, 1, 0]])
    loss, accuracy = optimizer_step(
        Distilled(student), keras.optimizers.SGD(0.0), images, tf.constant(soft)
    )
    assert np.isfinite(float(loss))
    assert float(accuracy) == 0.75
