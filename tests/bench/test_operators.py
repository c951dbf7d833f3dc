"""Cut-out operators compute what they computed in the whole, and their times add up."""

import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.bench import operators
from bitat_tf.convert import audit, export, export_float
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.runtime import Runner, Stopwatch, cut, read

layers = keras.layers


@pytest.fixture(scope="module")
def binary():
    inputs = keras.Input((12, 12, 32))
    x = layers.Conv2D(32, 3, padding="same")(inputs)
    for _ in range(2):
        x = layers.BatchNormalization()(BitatConv2D(32, 3)(RSign()(x)) + x)
    return export(keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x))))


@pytest.fixture(scope="module")
def convolution():
    inputs = keras.Input((12, 12, 4))
    return export_float(keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(inputs)))


def test_a_copy_computes_what_the_operator_does(convolution):
    images = np.random.default_rng(0).normal(size=(2, 12, 12, 4)).astype(np.float32)
    expected = Runner(convolution).predict(images)
    model = read(convolution)
    (index,) = [op.index for op in audit(convolution).ops if op.type == "CONV_2D"]
    for copies in (1, 3):
        alone = cut.cut_out(model, index, copies)
        kinds = [op.type for op in audit(alone).ops]
        assert kinds == ["CONV_2D"] * copies + ["SHAPE"] * (copies - 1)
        np.testing.assert_array_equal(Runner(alone).predict(images), expected)


def test_every_operator_of_a_binary_network_runs_alone_and_is_timed(binary):
    profile = operators.profile(binary, name="tiny", repeats=3)
    assert [row.type for row in profile.operators] == [op.type for op in audit(binary).ops]
    assert sum(row.share for row in profile.operators) == pytest.approx(1)
    assert profile.whole_ms > 0
    # Not within 15 %, which needs a quiet machine; but no operator is lost or counted twice.
    assert 0.2 < profile.sum_ms / profile.whole_ms < 3
    assert profile.device.startswith("host: ")
    assert "LCE" in profile.runtime


def test_an_operator_that_reads_one_tensor_twice():
    inputs = keras.Input((4, 4, 2))
    content = export_float(keras.Model(inputs, inputs + inputs))
    (index,) = [op.index for op in audit(content).ops if op.type == "ADD"]
    images = np.ones((1, 4, 4, 2), np.float32)
    found = Runner(cut.cut_out(read(content), index, 2)).predict(images)
    np.testing.assert_array_equal(found, 2 * images)


def test_copies_that_nobody_reads_are_computed_nevertheless():
    """Else a delegate's operators would seem to cost nothing."""
    inputs = keras.Input((32, 32, 32))
    content = export_float(keras.Model(inputs, layers.Conv2D(64, 3, padding="same")(inputs)))
    (index,) = [op.index for op in audit(content).ops if op.type == "CONV_2D"]
    with Stopwatch("tflite") as stopwatch:
        stopwatch.load(*(cut.cut_out(read(content), index, copies) for copies in (1, 11)))
        once, often = (min(stopwatch.run(10, index)) for index in (0, 1))
    assert often > 5 * once


@pytest.mark.parametrize(
    ("index", "copies", "name"), [(-1, 1, "index"), (99, 1, "index"), (0, 0, "copies")]
)
def test_numbers_out_of_range_are_refused(convolution, index, copies, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        cut.cut_out(read(convolution), index, copies)
