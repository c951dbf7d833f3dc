"""A training that goes wrong leaves its last good weights behind."""

import re

import numpy as np
import pytest

from bitat_tf import train
from bitat_tf._keras import tf
from bitat_tf.graph import binary_units
from bitat_tf.loading import load_keras_model

STEPS, LOG_STEPS = 12, 3
TRAINERS = pytest.mark.parametrize("trainer", ["fit", "loop"])


def poisoned_from(step, images, labels):
    """Endless batches of 32 whose images are NaN from batch `step` on."""

    def poison(index, batch):
        x, y = batch
        return tf.where(index >= step, np.nan, x), y

    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    return batches.enumerate().map(poison)


def run(student, data, path, trainer, rate=1e-2):
    """Train; the checkpoint, and the student's weights at each logged point."""
    seen = []
    checkpoint = train.Checkpoint(student, path) if path else None

    def validate():
        seen.append(student.get_weights())
        return 0.5

    with train.Monitor(
        "student", STEPS, log_steps=LOG_STEPS, validate=validate, checkpoint=checkpoint
    ) as monitor:
        train.train(
            train.Distilled(student),
            data,
            STEPS,
            train.cosine_adam(rate, STEPS),
            monitor,
            trainer=trainer,
        )
    return seen


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@TRAINERS
def test_the_file_holds_the_weights_of_the_last_good_point(
    tiny_student, images, labels, tmp_path, trainer
):
    healthy = run(tiny_student_copy(tiny_student), poisoned_from(99, images, labels), None, trainer)
    path = tmp_path / "student.checkpoint.keras"
    with pytest.raises(train.TrainingError) as caught:
        run(tiny_student, poisoned_from(8, images, labels), path, trainer)
    text = str(caught.value)
    assert "The loss became nan at step 8." in text
    assert f"{path} holds the weights of logged step 6." in text
    assert "\n" not in text
    kept = load_keras_model(path).get_weights()
    assert all(np.all(np.isfinite(weight)) for weight in kept)
    assert same(kept, healthy[1])
    assert not same(kept, tiny_student.get_weights())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def tiny_student_copy(student):
    copy = type(student).from_config(student.get_config())
    copy.set_weights(student.get_weights())
    return copy


def test_before_the_first_logged_point_there_is_nothing_to_keep(
    tiny_student, images, labels, tmp_path
):
    with pytest.raises(train.TrainingError, match=r"at step 1\. No weights were saved"):
        run(tiny_student, poisoned_from(1, images, labels), tmp_path / "c.keras", "fit")
    assert not list(tmp_path.iterdir())


@TRAINERS
def test_keeping_weights_does_not_change_the_training(
    tiny_student, images, labels, tmp_path, trainer
):
    start = tiny_student.get_weights()
    runs = []
    for path in (None, tmp_path / "c.keras"):
        tiny_student.set_weights(start)
        runs.append(run(tiny_student, poisoned_from(99, images, labels), path, trainer))
    assert all(same(a, b) for a, b in zip(*runs, strict=True))
    assert same(load_keras_model(tmp_path / "c.keras").get_weights(), runs[0][-1])


def test_weights_that_are_not_finite_never_take_the_good_ones_place(tiny_student, tmp_path):
    checkpoint = train.Checkpoint(tiny_student, tmp_path / "c.keras")
    checkpoint.save(5)
    good = tiny_student.get_weights()
    kernel = tiny_student.get_layer("block1_conv3x3").kernel.latent_variable
    kernel.assign(tf.where(tf.range(kernel.shape[-1]) == 0, np.inf, kernel))
    with pytest.raises(FloatingPointError, match="weights are not finite"):
        checkpoint.save(10)
    assert checkpoint.step == 5
    assert same(load_keras_model(tmp_path / "c.keras").get_weights(), good)


@pytest.mark.parametrize("where", ["weights", "outputs"])
def test_a_model_that_has_gone_wrong_at_a_logged_point_stops_the_training(
    tiny_student, tmp_path, where
):
    # the loss of a step is that of the weights before its update: it may still be finite
    def validate():
        if where == "weights":
            bias = tiny_student.get_layer("logits").bias
            bias.assign(np.nan * bias)
            return 0.5
        raise FloatingPointError("The model's outputs are not finite; it has no accuracy.")

    checkpoint = train.Checkpoint(tiny_student, tmp_path / "c.keras")
    with train.Monitor("student", 9, log_steps=2, validate=validate, checkpoint=checkpoint) as m:
        m.step(0, 1.0, 0.5)
        message = f"At logged step 2: The model's {where} are not finite"
        with pytest.raises(train.TrainingError, match=re.escape(message)):
            m.step(1, 1.0, 0.5)
    assert not list(tmp_path.iterdir())


def test_the_best_model_is_kept_once_all_of_it_is_binary(tiny_student, tmp_path):
    best = tmp_path / "best.keras"
    checkpoint = train.Checkpoint(tiny_student, tmp_path / "c.keras", best)
    first, *_ = units = binary_units(tiny_student)
    bias = tiny_student.get_layer("logits").bias

    def save(step, accuracy):
        bias.assign(tf.fill(bias.shape, float(step)))
        checkpoint.save(step, accuracy)

    first.activate(False)
    save(1, 0.9)  # better than what follows, but not yet a binary network
    assert not best.exists()
    first.activate(True)
    for step, accuracy in ((2, 0.5), (3, 0.7), (4, 0.7), (5, None), (6, 0.6)):
        save(step, accuracy)
    kept = load_keras_model(best)
    assert np.all(kept.get_layer("logits").bias.numpy() == 3.0)
    assert checkpoint.best == 0.7
    assert np.all(load_keras_model(tmp_path / "c.keras").get_layer("logits").bias.numpy() == 6.0)
    assert len(units) == 4
