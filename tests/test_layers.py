"""Every layer: config round trip, shapes, one training step, save and load, resume."""

import numpy as np
import pytest

from bitat_tf import linalg
from bitat_tf._keras import keras, tf
from bitat_tf.layers import BitatConv2D, OrthonormalTransform, RPReLU, RSign

LAYERS = {
    "transform": (lambda: OrthonormalTransform(max_block=4), (6, 8)),
    "conv": (lambda: BitatConv2D(5, 3, max_block=9), (6, 6, 4)),
    "conv_stride": (lambda: BitatConv2D(5, 3, 2), (6, 6, 4)),
    "conv_valid": (lambda: BitatConv2D(5, 3, padding="valid"), (6, 6, 4)),
    "conv_1x1": (lambda: BitatConv2D(5, 1), (6, 6, 4)),
    "rsign": (RSign, (6, 6, 4)),
    "rsign_thresholds": (lambda: RSign(thresholds=2), (6, 6, 4)),
    "rsign_relu": (lambda: RSign(inactive="relu"), (6, 6, 4)),
    "rprelu": (RPReLU, (6, 6, 4)),
}


def trained_model(make, shape):
    """A model around the layer after three optimizer steps, with its optimizer."""
    image = keras.Input(shape)
    y = make()(keras.layers.Activation("tanh")(image))
    scale = keras.layers.Dense(1, name="head")
    model = keras.Model(image, scale(keras.layers.Flatten()(y)))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = np.random.default_rng(0).normal(size=(16, *shape)).astype("float32")
    model.fit(x, x.reshape(16, -1).sum(1), batch_size=8, epochs=2, verbose=0)
    return model, x


@pytest.mark.parametrize("kind", LAYERS)
def test_config_round_trip_and_shapes(kind):
    make, shape = LAYERS[kind]
    layer = make()
    x = tf.constant(np.random.default_rng(1).normal(size=(3, *shape)), tf.float32)
    eager = layer(x)
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    symbolic = twin(keras.Input(shape))
    assert symbolic.shape.as_list()[1:] == eager.shape.as_list()[1:]
    assert np.all(np.isfinite(eager))


@pytest.mark.parametrize("kind", LAYERS)
def test_save_load_and_resume(kind, tmp_path):
    model, x = trained_model(*LAYERS[kind])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    # a training that goes on after loading ends where the uninterrupted one does
    y = x.reshape(16, -1).sum(1)
    for m in (model, loaded):
        m.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [k for k in LAYERS if k != "transform"])
def test_a_training_step_moves_every_trainable_weight(kind):
    make, shape = LAYERS[kind]
    layer = make()
    x = tf.constant(np.random.default_rng(2).normal(size=(8, *shape)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) * tf.random.normal(layer(x).shape))
    for weight, gradient in zip(
        layer.trainable_weights, tape.gradient(loss, layer.trainable_weights), strict=True
    ):
        assert np.any(np.asarray(gradient) != 0), weight.name


def test_transform_rotates_back_and_forth_and_is_the_equation():
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    blocks = linalg.diagonal_blocks(np.cov(samples.T), 3)
    vectors, importance = linalg.basis(blocks)
    layer = OrthonormalTransform(max_block=4)
    layer.build((None, 12))
    layer.assign(blocks, vectors, importance)
    x = tf.constant(samples, tf.float32)
    rotated = layer(x)
    np.testing.assert_allclose(rotated, linalg.rotate(vectors, samples.T).T, atol=1e-4)
    np.testing.assert_allclose(layer.inverse(rotated), samples, atol=1e-4)
    # within a block the rotated coordinates are uncorrelated, with variance s
    covariance = linalg.diagonal_blocks(np.cov(np.asarray(rotated).T), 3)
    for c, s in zip(covariance, importance, strict=True):
        np.testing.assert_allclose(c, np.diag(s), atol=1e-4 * s.max())


def test_transform_starts_as_the_identity():
    x = tf.random.normal((5, 7))
    np.testing.assert_array_equal(OrthonormalTransform()(x), x)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 1, "strides": 2},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 2},
    ],
)
@pytest.mark.parametrize("active", [True, False])
def test_patches_times_kernel_is_the_convolution(arguments, active):
    layer = BitatConv2D(6, **arguments)
    x = tf.where(tf.random.normal((2, 7, 7, 3)) < 0, -1.0, 1.0)
    layer.build(x.shape)
    layer.active.assign(active)
    kernel = layer.kernel.latent_variable.numpy().reshape(-1, 6)
    kernel = np.where(kernel < 0, -1.0, 1.0) if active else kernel
    expected = layer(x)
    np.testing.assert_allclose(layer.patches(x) @ kernel, tf.reshape(expected, (-1, 6)), atol=1e-5)


def test_an_active_convolution_computes_with_signs_and_pads_with_ones():
    layer = BitatConv2D(2, 3)
    x = tf.ones((1, 3, 3, 1))
    layer.build(x.shape)
    layer.kernel.latent_variable.assign(tf.fill((3, 3, 1, 2), 0.25))
    np.testing.assert_array_equal(layer(x), np.full((1, 3, 3, 2), 9.0))
    layer.active.assign(False)
    inactive = np.asarray(layer(x))
    assert inactive[0, 1, 1, 0] == pytest.approx(9 * 0.25)
    assert inactive[0, 0, 0, 0] == pytest.approx(4 * 0.25)  # zero padding


@pytest.mark.parametrize("arguments", [{"use_bias": True}, {"groups": 2}])
def test_a_bias_or_groups_are_refused(arguments):
    with pytest.raises(ValueError, match=r"no bias.*and no groups"):
        BitatConv2D(4, 3, **arguments)


def test_rsign_is_a_sign_about_minus_the_shift_or_nothing():
    layer = RSign()
    x = tf.constant([[-1.0, -0.5, 0.0, 2.0]])
    layer.build(x.shape)
    layer.shift.assign([0.5, 0.5, 0.0, -3.0])
    np.testing.assert_array_equal(layer(x), [[-1.0, 1.0, 1.0, -1.0]])
    layer.active.assign(False)
    np.testing.assert_array_equal(layer(x), x)


def test_several_thresholds_give_a_bit_each():
    layer = RSign(thresholds=2)
    x = tf.constant([[-1.0, 0.25], [0.75, 0.0]])
    layer.build(x.shape)
    layer.shift.assign([0.0, -0.5, 2.0, 0.5])  # thresholds 0 and -2; 0.5 and -0.5
    np.testing.assert_array_equal(layer(x), [[-1, -1, 1, 1], [1, -1, 1, 1]])
    layer.active.assign(False)
    np.testing.assert_array_equal(layer(x), tf.concat([x, x], -1))


@pytest.mark.parametrize("thresholds", [0, 1.5])
def test_a_sign_needs_a_threshold(thresholds):
    with pytest.raises(ValueError, match="`thresholds` must be an integer of at least 1"):
        RSign(thresholds=thresholds)


def test_inactive_rsign_is_the_activation_of_its_twin():
    layer = RSign(inactive="relu")
    x = tf.constant([[-1.0, 2.0]])
    layer.build(x.shape)
    layer.shift.assign([3.0, -3.0])
    np.testing.assert_array_equal(layer(x), [[1.0, -1.0]])
    layer.active.assign(False)
    np.testing.assert_array_equal(layer(x), [[0.0, 2.0]])


def test_rprelu_is_the_formula():
    layer = RPReLU()
    x = tf.constant([[-2.0, 3.0]])
    layer.build(x.shape)
    layer.shift_in.assign([0.5, -1.0])
    layer.slope.assign([0.1, 0.1])
    layer.shift_out.assign([10.0, 20.0])
    np.testing.assert_allclose(layer(x), [[0.1 * -1.5 + 10, 2.0 + 20]])


def test_rprelu_has_the_gradient_of_the_formula():
    rng = np.random.default_rng(4)
    layer = RPReLU()
    x = tf.constant(rng.normal(size=(5, 3, 3, 4)), tf.float32)
    upstream = tf.constant(rng.normal(size=x.shape), tf.float32)
    layer.build(x.shape)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    shift_in, slope, shift_out = (tf.convert_to_tensor(w) for w in layer.trainable_weights)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, shift_in, slope, shift_out])
        ours = layer(x)
        z = x + shift_in
        formula = tf.maximum(z, 0.0) + slope * tf.minimum(z, 0.0) + shift_out
    np.testing.assert_array_equal(ours, formula)
    expected = tape.gradient(formula, [x, shift_in, slope, shift_out], upstream)
    received = tape.gradient(ours, [x, *layer.trainable_weights], upstream)
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
