"""Inner features matched to the teacher's, found from the graph."""

import numpy as np
import pytest

from bitat_tf import train
from bitat_tf._keras import keras, tf
from bitat_tf.train.distill import optimizer_step
from bitat_tf.train.features import feature_error, feature_names, with_features


def test_features_end_the_branches_of_the_binary_convolutions(tiny_student, tiny_teacher):
    assert set(feature_names(tiny_student)) == {
        "block1_add3x3",
        "block1_add1x1a",
        "block1_add1x1b",
        "block2_add3x3",
        "block2_add1x1",
    }
    with pytest.raises(ValueError, match="must have binary convolutions"):
        feature_names(tiny_teacher)


def test_the_error_is_the_share_of_the_teacher_s_variance():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(16, 5, 5, 3)).astype("float32")
    noise = rng.normal(size=wanted.shape).astype("float32")
    assert float(feature_error([wanted], [wanted])) == 0.0
    mean = wanted.mean((0, 1, 2))
    assert float(feature_error([np.broadcast_to(mean, wanted.shape)], [wanted])) == pytest.approx(
        1.0, rel=1e-4
    )
    half = feature_error([wanted + noise, wanted], [wanted, wanted])
    assert float(half) == pytest.approx(0.5 * noise.var() / wanted.var(), rel=0.05)
    # in units of the teacher's: another scale is the same error
    assert float(feature_error([10 * (wanted + noise)], [10 * wanted])) == pytest.approx(
        float(feature_error([wanted + noise], [wanted])), rel=1e-3
    )
    assert np.isfinite(feature_error([wanted], [np.zeros_like(wanted)]))


def test_training_on_features_alone_brings_them_nearer(tiny_student, tiny_teacher, images, labels):
    """Logits of the teacher carry no weight here: the features do the work."""
    train.copy_float_weights(tiny_student, tiny_teacher)
    names = feature_names(tiny_student)
    model = train.Distilled(tiny_student, tiny_teacher, feature_weight=100.0)
    optimizer = keras.optimizers.Adam(1e-3)

    def distance():
        features = (
            with_features(m, names)(images, training=t)[1:]
            for m, t in ((tiny_student, True), (tiny_teacher, False))
        )
        return float(feature_error(*features))

    before = distance()
    step = tf.function(lambda: optimizer_step(model, optimizer, images, labels))
    for _ in range(30):
        step()
    assert distance() < 0.9 * before
    assert {id(v) for v in model.trainable_variables} == {
        id(v) for v in tiny_student.trainable_variables
    }


def test_matching_features_needs_a_teacher(tiny_student):
    with pytest.raises(ValueError, match="`teacher` is needed"):
        train.Distilled(tiny_student, feature_weight=1.0)
    with pytest.raises(ValueError, match="`feature_weight` must be at least 0"):
        train.Distilled(tiny_student, tiny_student, feature_weight=-1.0)
