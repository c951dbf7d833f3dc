import pytest

from bitat_tf import count, models
from bitat_tf._keras import keras
from bitat_tf.quantizers import lq

layers = keras.layers


def one(layer, shape=(8, 8, 6)):
    """The record of a model of this layer alone."""
    inputs = keras.Input(shape)
    (record,) = count(keras.Model(inputs, layer(inputs))).layers
    return record


@pytest.mark.parametrize(
    ("layer", "parameters", "macs"),
    [
        (layers.Conv2D(5, 3, padding="same"), 9 * 6 * 5 + 5, 64 * 9 * 6 * 5),
        (layers.Conv2D(5, 3, 2, use_bias=False), 9 * 6 * 5, 9 * 9 * 6 * 5),
        (layers.Conv2D(4, 1, groups=2, use_bias=False), 3 * 4, 64 * 3 * 4),
        (layers.DepthwiseConv2D(3, padding="same"), 9 * 6 + 6, 64 * 9 * 6),
        (layers.SeparableConv2D(5, 3, padding="same", use_bias=False), 84, 64 * 84),
        (layers.Conv2DTranspose(5, 3, 2, use_bias=False), 9 * 6 * 5, 64 * 9 * 6 * 5),
        (layers.Dense(7), 6 * 7 + 7, 64 * 6 * 7),
        (layers.BatchNormalization(), 2 * 6, 0),
        (layers.BatchNormalization(scale=False, center=False), 2 * 6, 0),
        (layers.PReLU(shared_axes=[1, 2]), 6, 0),
        (layers.MaxPooling2D(), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else str(value),
)
def test_one_float_layer(layer, parameters, macs):
    record = one(layer)
    assert (record.name, record.kind) == (layer.name, type(layer).__name__)
    assert (record.parameters, record.macs, record.binary) == (parameters, macs, False)
    assert record.size_bytes == 4 * parameters


def test_dense_on_flat_features():
    assert one(layers.Dense(7), shape=(6,)).macs == 6 * 7


def test_a_binary_convolution_takes_a_bit_per_weight_in_whole_words():
    binary = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    record = one(lq.layers.QuantConv2D(5, 3, padding="same", **binary), shape=(8, 8, 33))
    assert record.binary
    assert record.macs == 64 * 9 * 33 * 5
    assert record.parameters == 9 * 33 * 5 + 5  # its bias
    assert record.size_bytes == 4 * (9 * 2 * 5) + 4 * 5


def test_larq_s_other_layers_stay_float():
    quantized = {"input_quantizer": "ste_sign", "depthwise_quantizer": "ste_sign"}
    assert not one(lq.layers.QuantDepthwiseConv2D(3, **quantized)).binary
    assert not one(lq.layers.QuantConv2D(5, 3)).binary


def test_binary_network_and_twin_differ_by_the_thresholds():
    binary, twin = (
        count(models.build("mobilenet_v1_react_nano", input_size=8, binary=flag))
        for flag in (True, False)
    )
    signs = [layer for layer in binary.layers if layer.kind == "RSign"]
    assert binary.parameters - twin.parameters == sum(layer.parameters for layer in signs) > 0
    assert binary.binary_macs + binary.float_macs == twin.float_macs
    assert twin.binary_macs == twin.binary_parameters == 0
    assert binary.ops == binary.binary_macs / 64 + binary.float_macs
    convolutions = [layer for layer in binary.layers if layer.kind == "BitatConv2D"]
    assert all(layer.binary for layer in convolutions)
    assert binary.binary_parameters == sum(layer.parameters for layer in convolutions)


def test_a_layer_called_twice_has_its_weights_once():
    inputs = keras.Input((8, 8, 6))
    shared = layers.Conv2D(6, 3, use_bias=False, name="shared")
    (record,) = count(keras.Model(inputs, shared(shared(inputs)))).layers
    assert record.parameters == 9 * 6 * 6
    assert record.macs == (36 + 16) * 9 * 6 * 6


def test_nested_models_are_counted_too():
    inner = keras.Sequential([keras.Input((8, 8, 6)), layers.Conv2D(5, 1, name="inner")])
    inputs = keras.Input((8, 8, 6))
    outer = keras.Model(inputs, layers.Dense(3, name="outer")(inner(inputs)))
    assert {layer.name: layer.macs for layer in count(outer).layers} == {
        "inner": 64 * 6 * 5,
        "outer": 64 * 5 * 3,
    }


def test_unknown_size_is_refused():
    inputs = keras.Input((None, None, 6))
    with pytest.raises(ValueError, match=r"fixed size to be counted\. Received: layer 'conv'"):
        count(keras.Model(inputs, layers.Conv2D(5, 1, name="conv")(inputs)))


def test_a_subclassed_model_is_refused():
    class Custom(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional or Sequential"):
        count(Custom())
