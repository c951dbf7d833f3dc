"""Flattening changes no function, and gives the same names each time."""

import numpy as np
import pytest
from networks import distance, examples, residual, trained, unusual

from bitat_tf._keras import keras
from bitat_tf.binarize.flatten import flatten


def test_it_computes_the_same_with_weights_of_its_own(network):
    flat = flatten(network).model
    inputs = examples(network)
    assert distance(flat, network, inputs) < 1e-5
    before = [np.array(w) for w in network.get_weights()]
    for weight in flat.weights:
        weight.assign(weight * 0.0)
    for a, b in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_are_those_of_the_model_unless_two_are_alike():
    model = trained(unusual())
    flat = flatten(model)
    names = [layer.name for layer in flat.model.layers]
    assert names == [layer.name for layer in flatten(model).model.layers]
    assert {"stem_conv", "block_conv_depthwise", "block_conv_pointwise"} <= set(names)
    assert {"bn", "relu", "grouped", "gate_out_activation", "left", "right"} <= set(names)
    assert not any(isinstance(layer, keras.Model) for layer in flat.model.layers)
    assert flat.kinds["block_conv_pointwise"] == "SeparableConv2D"
    # used twice, it stays one set of weights
    stem = [layer for layer in flat.model.layers if layer.name == "stem_conv"]
    assert len(stem) == 1
    assert len(stem[0].inbound_nodes) == 2


def test_a_sum_by_operator_becomes_an_add_layer():
    flat = flatten(trained(residual())).model
    again = flatten(trained(residual())).model
    for model in (flat, again):  # built anew, TensorFlow would number its operations on
        sums = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
        assert sums == ["sum_1", "sum_2"]


def test_a_flat_model_is_returned_as_it_is(tiny_teacher):
    assert flatten(tiny_teacher).model is tiny_teacher


def test_values_derived_from_weights_are_copied_too():
    image = keras.Input((4, 4, 3))
    normalization = keras.layers.Normalization(name="standardise")
    y = keras.layers.Conv2D(2, 1, activation="relu")(normalization(image))
    model = keras.Model(image, y)
    inputs = np.random.default_rng(0).normal(3.0, 2.0, size=(16, 4, 4, 3)).astype("float32")
    normalization.adapt(inputs)
    assert distance(flatten(model).model, model, inputs) == pytest.approx(0, abs=1e-6)
