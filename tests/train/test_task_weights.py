"""Omega against a gradient worked out by hand."""

import numpy as np
import pytest

from bitat_tf._keras import keras, tf
from bitat_tf.train.task_weights import task_weights

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 4, 4, 3)).astype("float32")
LABELS = RNG.integers(0, 5, 12)
BATCHES, BATCH_LABELS = [IMAGES[:8], IMAGES[8:]], [LABELS[:8], LABELS[8:]]


@pytest.fixture
def teacher():
    """Convolution, BatchNorm, square, average, Dense: a gradient one can write down."""
    image = keras.Input((4, 4, 3))
    y = keras.layers.Conv2D(6, 3, padding="same", name="conv")(image)
    y = keras.layers.BatchNormalization(name="bn")(y)
    y = keras.layers.Lambda(tf.square, name="square")(y)
    y = keras.layers.GlobalAveragePooling2D(name="pool")(y)
    model = keras.Model(image, keras.layers.Dense(5, name="logits")(y))
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    model.get_layer("bn").set_weights(
        [gamma * 1.5, beta + 0.2, mean - 0.1, variance * 2.0],
    )
    return model


def by_hand(teacher, labels):
    """||dL/dy||^2 for the outputs y of "bn": dL/dy = 2 y (softmax - onehot) K^T / positions."""
    y = keras.Model(teacher.input, teacher.get_layer("bn").output)(IMAGES).numpy()
    kernel, _ = teacher.get_layer("logits").get_weights()
    difference = tf.nn.softmax(teacher(IMAGES)).numpy() - np.eye(5)[labels]
    gradient = 2.0 * y * (difference @ kernel.T)[:, None, None, :] / 16
    squares = np.sum(gradient**2, axis=-1).ravel()
    return squares / squares.mean()


def test_omega_is_the_squared_loss_gradient_of_mean_one(teacher):
    weights = task_weights(teacher, ["bn"], BATCHES, BATCH_LABELS)["bn"]
    assert [w.shape for w in weights] == [(8 * 16,), (4 * 16,)]
    omega = np.concatenate(weights)
    assert np.all(omega >= 0)
    assert omega.mean() == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(omega, by_hand(teacher, LABELS), rtol=1e-4, atol=1e-6)


def test_without_labels_the_teacher_s_own_answers_count(teacher):
    own = np.argmax(teacher(IMAGES), axis=-1)
    assert np.any(own != LABELS)
    omega = np.concatenate(task_weights(teacher, ["bn"], BATCHES, None)["bn"])
    np.testing.assert_allclose(omega, by_hand(teacher, own), rtol=1e-4, atol=1e-6)


def test_an_image_weighs_the_same_in_whatever_batch(teacher):
    whole = task_weights(teacher, ["bn", "conv"], [IMAGES], [LABELS])
    parts = task_weights(teacher, ["bn", "conv"], BATCHES, BATCH_LABELS)
    for name in ("bn", "conv"):
        np.testing.assert_allclose(np.concatenate(parts[name]), whole[name][0], rtol=1e-4)


# 1e-25 stands for a teacher that is sure of everything: the squares of its gradients are below
# what float32 can hold.
@pytest.mark.parametrize("factor", [1e-25, 1e-3, 1e3])
def test_a_constant_factor_on_the_loss_changes_nothing(teacher, monkeypatch, factor):
    before = task_weights(teacher, ["bn"], BATCHES, BATCH_LABELS)["bn"]
    loss = keras.losses.sparse_categorical_crossentropy
    monkeypatch.setattr(
        keras.losses,
        "sparse_categorical_crossentropy",
        lambda *given, **named: factor * loss(*given, **named),
    )
    after = task_weights(teacher, ["bn"], BATCHES, BATCH_LABELS)["bn"]
    np.testing.assert_allclose(np.concatenate(after), np.concatenate(before), rtol=1e-4)


def test_where_the_loss_depends_on_nothing_all_positions_count_alike(teacher):
    teacher.get_layer("logits").set_weights([np.zeros((6, 5)), np.zeros(5)])
    for weights in task_weights(teacher, ["bn", "conv"], BATCHES, BATCH_LABELS).values():
        np.testing.assert_array_equal(np.concatenate(weights), np.ones(12 * 16))


def test_a_teacher_that_is_not_finite_is_refused(teacher):
    teacher.get_layer("logits").set_weights([np.full((6, 5), np.nan), np.zeros(5)])
    with pytest.raises(ValueError, match="loss gradient is not finite"):
        task_weights(teacher, ["bn"], BATCHES, BATCH_LABELS)
