"""Each rewrite alone: its identity where it holds, and hands off where it does not."""

from collections import Counter

import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.convert import fold_with_report
from bitat_tf.convert.fold import fold
from bitat_tf.convert.fold.network import BATCHNORM, BINARY, RELU, SHIFT
from bitat_tf.convert.fold.reading import read
from bitat_tf.convert.fold.relu import relu_first
from bitat_tf.convert.fold.writing import write
from bitat_tf.quantizers import lq

layers = keras.layers


def changed(model):
    folded, steps = fold_with_report(model)
    return folded, {step.rewrite: step.changed for step in steps}


def kinds(model):
    return Counter(type(layer).__name__ for layer in model.layers)


@pytest.fixture
def image():
    return keras.Input((8, 8, 3))


@pytest.fixture
def stem(image):
    """Reals of many sizes: the image has only 3 channels."""
    return layers.Conv2D(8, 3, padding="same", name="stem")(image)


def binarized(nets, x, **arguments):
    return nets.binary_convolution(8, **arguments)(nets.sign()(x))


def test_reading_and_writing_changes_nothing(nets, image, stem, small_images):
    x = layers.Activation("relu")(layers.Conv2D(8, 3, activation="tanh")(stem))
    x = layers.PReLU(shared_axes=[1, 2])(binarized(nets, x, padding="valid"))
    outputs = layers.Dense(4, activation="softmax")(layers.Flatten()(x))
    model = nets.untamed(keras.Model(image, [outputs, x]), 0)
    again = write(read(model), model)
    for one, other in zip(
        model(small_images, training=False), again(small_images, training=False), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_scale_moves_through_relu_and_a_dead_channel_is_its_constant(
    nets, image, stem, small_images
):
    x = binarized(nets, stem, kernel_quantizer="magnitude_aware_sign", name="conv")
    x = layers.BatchNormalization()(layers.MaxPooling2D(2)(layers.ReLU()(x)))
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 1)
    kernel = model.get_layer("conv").get_weights()[0]
    kernel[..., 2] = 0
    model.get_layer("conv").set_weights([kernel])
    folded, names = changed(model)
    assert names["move_scales"] == ("conv",)
    assert np.all(np.abs(read(folded).of_kind(BINARY)[0].numbers["scale"]) == 1)
    nets.check_equal(model, folded, small_images)


def test_scale_without_a_batchnorm_stays_in_the_kernel(nets, image, stem, small_images):
    x = binarized(nets, stem, kernel_quantizer="magnitude_aware_sign")
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 1)
    folded, names = changed(model)
    assert names["move_scales"] == ()
    nets.check_equal(model, folded, small_images)


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_relu_goes_before_a_batchnorm_without_an_offset(nets, image, stem, small_images, offset):
    x = binarized(nets, stem, name="conv")
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 2)
    gamma, _, mean, variance = model.get_layer("norm").get_weights()
    beta = gamma * mean / np.sqrt(variance + model.get_layer("norm").epsilon) + offset
    model.get_layer("norm").set_weights([gamma, beta, mean, variance])
    assert gamma.min() < 0 < gamma.max()
    network = read(model)
    assert relu_first(network) == ([] if offset else ["relu"])
    order = [node.kind for node in network.nodes if node.kind in (RELU, BATCHNORM)]
    assert order == ([BATCHNORM, RELU] if offset else [RELU, BATCHNORM])
    nets.check_equal(model, write(network, model), small_images)


def test_parallel_branches_merge_with_all_that_stands_on_them(nets, image, stem, small_images):
    bits = nets.sign()(stem)
    branches = []
    for index in range(3):
        y = nets.binary_convolution(8, 1, name=f"conv_{index}")(bits)
        y = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(y))
        branches.append(layers.Add()([stem, y] if index else [y, stem]))
    x = layers.Concatenate()(branches)
    model = nets.untamed(keras.Model(image, layers.GlobalAveragePooling2D()(x)), 3)
    folded, names = changed(model)
    assert names["merge_branches"] == ("conv_0_and_conv_1_and_conv_2",)
    found = kinds(folded)
    assert found["QuantConv2D"] == found["BatchNormalization"] == found["Add"] == 1
    assert folded.get_layer("conv_0_and_conv_1_and_conv_2").filters == 24
    nets.check_equal(model, folded, small_images)


@pytest.mark.parametrize("difference", ["another input", "another stride", "read twice"])
def test_branches_that_differ_stay(nets, image, stem, small_images, difference):
    bits = nets.sign()(stem)
    other = nets.sign()(layers.Conv2D(8, 1)(stem)) if difference == "another input" else bits
    a = nets.binary_convolution(8, 3)(bits)
    if difference == "another stride":
        b = layers.UpSampling2D()(nets.binary_convolution(8, 3, strides=2)(other))
    else:
        b = nets.binary_convolution(8, 3)(other)
    outputs = [layers.Flatten()(layers.Concatenate()([a, b]))]
    if difference == "read twice":
        outputs.append(layers.Flatten()(a))
    model = nets.untamed(keras.Model(image, outputs), 4)
    _, names = changed(model)
    assert names["merge_branches"] == ()


def test_what_only_a_sign_reads_becomes_its_threshold(nets, image, small_images):
    x = layers.Add()([layers.Conv2D(8, 3)(image), layers.Conv2D(8, 3)(image)])
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = binarized(nets, x + np.linspace(-1, 1, 8, dtype=np.float32))
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 5)
    norm = model.get_layer("norm")
    gamma, *rest = norm.get_weights()
    norm.set_weights([np.abs(gamma), *rest])
    folded, names = changed(model)
    assert names["to_thresholds"] == ("prelu", "norm")
    assert nets.additions(folded) == []  # the convolutions' biases have it
    assert kinds(folded)["PReLU"] == kinds(folded)["BatchNormalization"] == 0
    nets.check_equal(model, folded, small_images)


def test_falling_function_in_front_of_a_sign_stays(nets, image, small_images):
    x = layers.Add()([layers.Conv2D(8, 3)(image), layers.Conv2D(8, 3)(image)])
    x = binarized(nets, layers.BatchNormalization()(x))
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 6)
    folded, names = changed(model)
    assert names["to_thresholds"] == ()
    nets.check_equal(model, folded, small_images)


@pytest.mark.parametrize(
    ("size", "strides", "replaced"), [(2, 2, True), (3, 2, False), (3, 3, False), (4, 4, True)]
)
def test_average_pools_that_tile_become_depthwise(
    nets, image, small_images, size, strides, replaced
):
    x = layers.AveragePooling2D(size, strides, padding="same", name="pool")(image)
    model = keras.Model(image, x)
    folded, names = changed(model)
    assert names["pools_to_depthwise"] == (("pool",) if replaced else ())
    nets.check_equal(model, folded, small_images)


def test_only_1x1_convolutions_lose_their_padding(nets, image, stem, small_images):
    x = binarized(nets, stem, size=1, pad_values=0.0, strides=2, name="small")
    x = binarized(nets, layers.BatchNormalization()(x), pad_values=0.0, name="large")
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 7)
    folded, names = changed(model)
    assert names["drop_padding"] == ("small",)
    assert folded.get_layer("small").padding == "valid"
    assert folded.get_layer("large").padding == "same"
    nets.check_equal(model, folded, small_images)


def test_constants_do_not_pass_padding_with_zeros(nets, image, small_images):
    shift = np.linspace(-1, 1, 3, dtype=np.float32)
    padded = layers.Conv2D(4, 3, padding="same")(image + shift)
    inside = layers.Conv2D(4, 3)(image + shift)
    model = keras.Model(image, [layers.Flatten()(padded), layers.Flatten()(inside)])
    nets.untamed(model, 8)
    folded, names = changed(model)
    assert len(names["move_shifts"]) == len(nets.additions(folded)) == 1
    for one, other in zip(
        model(small_images, training=False), folded(small_images, training=False), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_constants_pass_pools_sums_concatenations_and_flatten(nets, image, small_images):
    def shifted(x, low):
        return x + np.linspace(low, 1, x.shape[-1], dtype=np.float32)

    a, b = layers.Conv2D(4, 3)(image), layers.Conv2D(6, 3)(image)
    x = layers.Concatenate()([shifted(a, -1), layers.Add()([shifted(b, -2), shifted(b, 0)])])
    x = layers.MaxPooling2D(3, 2, padding="same")(shifted(x, -3))
    x = layers.AveragePooling2D(2, padding="same")(shifted(x, -4))
    model = nets.untamed(keras.Model(image, layers.Dense(4)(layers.Flatten()(shifted(x, 5)))), 9)
    folded, names = changed(model)
    assert len(names["move_shifts"]) == 6
    assert nets.additions(folded) == []
    nets.check_equal(model, folded, small_images)


def test_two_thresholds_on_one_tensor_keep_one_addition(nets, image, stem, small_images):
    signs = [
        binarized(nets, stem + np.linspace(low, 1, 8, dtype=np.float32)) for low in (-1.0, -2.0)
    ]
    model = nets.untamed(keras.Model(image, layers.Flatten()(layers.Add()(signs))), 10)
    folded, names = changed(model)
    assert len(nets.additions(folded)) == len(names["move_shifts"]) == 1
    nets.check_equal(model, folded, small_images)


def test_shared_layer_stays_shared_and_untouched(nets, image, stem, small_images):
    norm = layers.BatchNormalization(name="norm")
    shift = np.linspace(-1, 1, 8, dtype=np.float32)
    x = layers.Add()([norm(stem), norm(layers.Conv2D(8, 1)(image) + shift)])
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 11)
    folded, names = changed(model)
    assert names["fold_batchnorms"] == ()
    assert [w.shape for w in folded.get_layer("norm").get_weights()] == [(8,)] * 4
    nets.check_equal(model, folded, small_images)


def test_what_the_fold_does_not_know_is_repeated(nets, image, stem, small_images):
    shift = np.linspace(-1, 1, 8, dtype=np.float32)
    x = layers.Activation("tanh")(stem + shift)
    x = layers.LeakyReLU()(layers.ZeroPadding2D()(x * 2.0) - 0.5)
    inner_input = keras.Input(x.shape[1:])
    inner = keras.Model(inner_input, layers.Conv2D(4, 3)(inner_input))
    model = nets.untamed(keras.Model(image, layers.Flatten()(inner(x))), 12)
    folded, names = changed(model)
    assert len(names["move_shifts"]) == 1  # into the stem's bias
    nets.check_equal(model, folded, small_images)


def test_kernel_that_is_not_binary_is_left_alone(nets, image, stem, small_images):
    ternary = lq.quantizers.SteTern()
    x = binarized(nets, stem, kernel_quantizer=ternary, name="ternary")
    model = nets.untamed(keras.Model(image, layers.Flatten()(layers.BatchNormalization()(x))), 13)
    folded, _ = changed(model)
    assert type(folded.get_layer("ternary").kernel_quantizer) is lq.quantizers.SteTern
    nets.check_equal(model, folded, small_images)


def test_addition_that_is_the_output_stays(nets, image, small_images):
    model = keras.Model(image, image + np.array([1, 2, 3], np.float32))
    folded = fold(model)
    assert [node.kind for node in read(folded).nodes] == [SHIFT]
    nets.check_equal(model, folded, small_images)
