import importlib

import numpy as np
import pytest

from bitat_tf import graph, models, runtime
from bitat_tf._keras import keras, tf
from bitat_tf.convert import (
    ConversionError,
    audit,
    check_parity,
    export,
    export_float,
    fold_with_report,
    strip,
)
from bitat_tf.quantizers import lq

layers = keras.layers


def network(size=8, tail=None, **arguments):
    """A stem and one binary convolution named "conv"."""
    defaults = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "pad_values": 1.0,
    }
    inputs = keras.Input((size, size, 4))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = lq.layers.QuantConv2D(8, 3, padding="same", name="conv", **{**defaults, **arguments})(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, x if tail is None else tail(x))


def test_every_binary_convolution_is_lcebconv2d(student, flatbuffer):
    report = audit(flatbuffer)
    intended = [layer for layer in student.layers if layer.name.rpartition("_")[2][:4] == "conv"]
    assert report.binary_convolutions == len(intended) - 2  # not the stem, and two are merged
    assert report.float_convolutions == 1


def test_stripped_model_exports_silently_to_the_same_bytes(student, flatbuffer, capfd):
    assert export(strip(student)) == flatbuffer
    assert capfd.readouterr() == ("", "")


def test_several_thresholds_stay_binary_convolutions(images):
    keras.utils.set_random_seed(0)
    model = models.build(
        "mobilenet_v1_react_nano", classes=4, input_size=16, blocks=((2, 2), (2, 1)), thresholds=2
    )
    rng = np.random.default_rng(0)
    for unit in graph.binary_units(model):
        unit.sign.shift.assign(rng.normal(size=unit.sign.shift.shape))
    np.testing.assert_array_equal(strip(model)(images), model(images, training=False))
    content = export(model)
    report = audit(content)
    assert report.binary_convolutions == 4  # the two that double the channels are merged
    assert report.float_convolutions == 1
    assert {op.kernel_shape[3] for op in report.ops if op.binary} == {24, 48}
    assert check_parity(model, content, images).passed


def test_unfolded_network_has_every_convolution_and_more_operators(student, flatbuffer):
    unfolded = audit(export(student, fold=False))
    assert unfolded.binary_convolutions == 5
    assert len(unfolded.ops) > len(audit(flatbuffer).ops)
    assert unfolded.size_bytes > len(flatbuffer)


def test_kernel_that_the_fold_loses_is_named(student, monkeypatch):
    module = importlib.import_module("bitat_tf.convert.export")

    def flip(plain):
        folded, steps = fold_with_report(plain)
        convolution = folded.get_layer("block2_conv1x1")
        kernel = convolution.get_weights()[0]
        kernel[0, 0, 0, 0] *= -1
        convolution.set_weights([kernel])
        return folded, steps

    monkeypatch.setattr(module, "fold_with_report", flip)
    with pytest.raises(ConversionError, match="lost the kernels of block2_conv1x1"):
        export(student)


def test_float_twin_runs_and_has_no_binary_operator(twin, float_flatbuffer, images):
    report = audit(float_flatbuffer)
    assert report.binary_convolutions == 0
    assert not any(op.type.startswith("Lce") for op in report.ops)
    # Stripped, so that the baseline is not slowed down by how RPReLU is written for training.
    assert "PRELU" in {op.type for op in report.ops}
    expected = twin(images, training=False).numpy()
    np.testing.assert_allclose(
        runtime.Runner(float_flatbuffer).predict(images), expected, atol=1e-4
    )


def test_convolution_that_stayed_float_is_named():
    with pytest.raises(ConversionError, match=r"1 of 1 .*: conv \(found: CONV_2D "):
        export(network(pad_values=-1.0))


def test_unknown_operation_is_named():
    with pytest.raises(ConversionError, match="unresolved custom op: Erfinv"):
        export(network(tail=layers.Lambda(tf.math.erfinv)))


def test_converter_error_reaches_the_user(monkeypatch):
    def fail(folder, **types):
        raise RuntimeError("the real\n cause")

    # The package's attribute of this name is the function.
    module = importlib.import_module("bitat_tf.convert.export")
    monkeypatch.setattr(module.lce, "convert_saved_model", fail)
    with pytest.raises(ConversionError, match=r"refused 'model.*: the real cause"):
        export(network())


def test_model_without_binary_convolution_is_refused(twin):
    with pytest.raises(ValueError, match=r"no binary convolution.*export_float"):
        export(twin)


def test_binary_model_is_refused_as_a_float_one(student):
    with pytest.raises(ValueError, match="binary convolutions, such as 'block1_conv3x3'"):
        export_float(student)


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"fixed size. Received: \(None, None, None, 4\)"):
        export(network(size=None))


def test_half_precision_is_refused_by_layer():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, dtype="mixed_float16", name="half")(inputs)
    with pytest.raises(ValueError, match="'half' computes in float16"):
        export_float(keras.Model(inputs, x))
