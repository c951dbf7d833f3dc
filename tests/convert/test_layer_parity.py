"""The comparison names the layer whose operator was tampered with, and no other."""

import numpy as np
import pytest

from bitat_tf import convert, runtime
from bitat_tf._keras import keras, tf
from bitat_tf.convert.parity import check_conversion, require_parity
from bitat_tf.quantizers import lq
from bitat_tf.runtime.packing import pack

layers = keras.layers


@pytest.fixture(scope="module")
def made(student):
    return convert.convert_model(student)


@pytest.fixture(scope="module")
def int8_made(student, images):
    return convert.convert_model(student, ends="int8", io="int8", calibration_images=images)


def altered(flatbuffer, number, change):
    """The flatbuffer with the constant of an operator's second input changed.

    Args:
        number: of the operator.
        change: told its bytes as an array, which it may write to.
    """
    model = runtime.read(flatbuffer)
    operator = model.subgraphs[0].operators[number]
    buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]
    content = np.array(buffer.data, np.uint8)
    change(content)
    buffer.data = content
    return pack(model)


def flip_one_bit(content):
    content[0] ^= 1


def one_weight(content):
    content.view("<f4")[7] += 0.05


def one_int8_weight(content):
    content.view(np.int8)[7] ^= 0x40


def numbers(made, kind):
    return [op.index for op in made.audit.ops if op.type == kind]


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "as trained"])
def test_a_conversion_has_no_layer_that_differs(made, student, images, fold):
    made = made if fold else convert.convert_model(student, fold=False)
    report = convert.check_layers(made.model, made.flatbuffer, images[:8])
    assert report.first_divergence is None
    assert "No layer differs" in convert.describe(report)
    # every operator has its layer, and float rounding is all there is
    assert [layer.operator for layer in report.layers] == [op.index for op in made.audit.ops]
    assert report.uncompared == ()
    assert 0 < max(layer.error_max for layer in report.layers) < 1e-5
    signs = [layer.sign_agreement for layer in report.layers if layer.type == "LceQuantize"]
    assert set(signs) == {1.0}


def test_int8_ends_differ_by_a_step_at_most(int8_made, images):
    report = convert.check_layers(int8_made.model, int8_made.flatbuffer, images[:8])
    assert report.first_divergence is None
    assert report.layers[0].layer == "stem_conv_int8"
    assert report.layers[-1].layer == "logits_int8"


@pytest.mark.parametrize(
    ("kind", "which", "change", "layer"),
    [
        ("CONV_2D", 0, one_weight, "stem_conv"),
        ("LceBconv2d", 0, flip_one_bit, "block1_bn3x3"),
        ("LceBconv2d", 2, flip_one_bit, "block2_bn3x3"),
        ("PRELU", 2, one_weight, "block1_rprelu1x1"),
        ("FULLY_CONNECTED", 0, one_weight, "logits"),
    ],
)
def test_one_altered_weight_is_found_where_it_is(made, images, kind, which, change, layer):
    number = numbers(made, kind)[which]
    report = convert.check_layers(made.model, altered(made.flatbuffer, number, change), images[:8])
    # Whatever is behind it got from Keras what it should have got from it.
    (different,) = (found for found in report.layers if not found.passed)
    assert different == report.first_divergence
    assert (different.layer, different.operator, different.type) == (layer, number, kind)
    assert f"differs is {layer!r} (operator {number}, {kind})" in convert.describe(report)


def test_one_altered_int8_weight_is_found(int8_made, images):
    number = numbers(int8_made, "CONV_2D")[0]
    tampered = altered(int8_made.flatbuffer, number, one_int8_weight)
    report = convert.check_layers(int8_made.model, tampered, images[:8])
    assert [found.layer for found in report.layers if not found.passed] == ["stem_conv_int8"]


def bits_to_bits(seed=0):
    """Convolutions between which nothing but bits passes, and a pool of bits."""
    rng = np.random.default_rng(seed)
    x = inputs = keras.Input((8, 8, 33), name="image")
    for index in range(3):
        x = lq.quantizers.SteSign(name=f"sign_{index}")(x)
        x = lq.layers.QuantConv2D(
            33, 3, kernel_quantizer="ste_sign", padding="same", pad_values=1.0, name=f"conv_{index}"
        )(x)
        norm = layers.BatchNormalization(name=f"norm_{index}")
        x = norm(x)
        signs = rng.choice([-1, 1], 33)
        norm.set_weights(
            [signs * rng.uniform(0.5, 1.5, 33), *rng.normal(size=(2, 33)), rng.uniform(50, 99, 33)]
        )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, name="logits")(x))


def test_operators_that_write_bits_are_compared_sign_by_sign():
    keras.utils.set_random_seed(0)
    made = convert.convert_model(bits_to_bits())
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 33)).astype(np.float32)
    report = convert.check_layers(made.model, made.flatbuffer, images)
    assert report.first_divergence is None
    binary = [layer for layer in report.layers if layer.type == "LceBconv2d"]
    assert [layer.layer for layer in binary] == ["sign_1", "sign_2", "norm_2"]
    assert [layer.sign_agreement for layer in binary[:2]] == [1.0, 1.0]
    second = binary[1].operator
    tampered = altered(made.flatbuffer, second, flip_one_bit)
    first = convert.check_layers(made.model, tampered, images).first_divergence
    assert (first.layer, first.operator) == ("sign_2", second)
    assert first.sign_agreement < 1


def test_an_operator_with_several_outputs_hands_on_all_of_them():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 6), name="image")
    first, second = tf.split(inputs, 2, axis=-1)
    x = layers.Conv2D(5, 3, name="left")(first) + layers.Conv2D(5, 3, name="right")(second)
    outputs = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(1).normal(size=(4, 4, 4, 6)).astype(np.float32)
    report = convert.check_layers(model, convert.export_float(model), images)
    assert any("SPLIT" in operator for operator in report.uncompared)
    assert report.first_divergence is None
    assert {"left", "right", "logits"} <= {layer.layer for layer in report.layers}


def test_a_float_network_is_compared_on_tensorflow_s_interpreter(twin, images):
    plain = convert.fold(convert.strip(twin))
    report = convert.check_layers(plain, convert.export_float(twin), images[:4])
    assert report.first_divergence is None
    assert report.layers[-1].layer == "logits"


def test_a_conversion_that_fails_names_the_layer(made, student, images):
    number = numbers(made, "CONV_2D")[0]

    def ruin(content):
        content.view("<f4")[:] *= -1

    bad = altered(made.flatbuffer, number, ruin)
    report = check_conversion(
        convert.Conversion(bad, made.model, made.steps, made.audit), student, images
    )
    assert not report.passed
    with pytest.raises(convert.ConversionError, match="first layer that differs is 'stem_conv'"):
        require_parity(report)


def test_layers_are_compared_on_request_only_where_all_agrees(made, student, images):
    assert check_conversion(made, student, images).layers is None
    report = check_conversion(made, student, images, layers=True)
    assert report.passed
    assert report.layers.images == 16
    require_parity(report)


def test_int8_ends_have_their_own_model_and_floor(int8_made, student, images):
    report = check_conversion(int8_made, student, images)
    assert report.min_agreement == 0.97
    assert check_conversion(int8_made, student, images, min_agreement=0.5).min_agreement == 0.5


def test_another_model_s_layers_are_not_those_of_the_flatbuffer(made):
    inputs = keras.Input((16, 16, 3))
    other = keras.Model(inputs, layers.Flatten(name="flat")(inputs))
    images = np.zeros((1, 16, 16, 3), np.float32)
    with pytest.raises(ValueError, match="carries the name of a layer"):
        convert.check_layers(other, made.flatbuffer, images)


def test_what_does_not_fit_is_refused(made, images):
    with pytest.raises(ValueError, match=r"`images` must have shape"):
        convert.check_layers(made.model, made.flatbuffer, images[:, :8])
    with pytest.raises(ValueError, match=r"`max_error` must be positive"):
        convert.check_layers(made.model, made.flatbuffer, images, max_error=0.0)
