"""Every quantizer of ours: outputs exactly +-scale, gradients as stated, and Larq's equal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf import quantizers
from bitat_tf._keras import keras, tf
from bitat_tf.layers import BitatConv2D, RSign

KERNEL = ["libra_sign", "recu_sign", "staged_sign", "masked_kernel"]
ACTIVATION = ["ede_sign", "masked_sign"]
NAMES = [*KERNEL, *ACTIVATION, "masked_ste_sign", "masked_ste_kernel"]


def kernel(seed=0, shape=(3, 3, 4, 6), scale=0.2):
    # An off-centre kernel: balancing must change some signs.
    return tf.constant(np.random.default_rng(seed).normal(0.05, scale, shape), tf.float32)


def gradient(function, x, upstream=None):
    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    if upstream is not None:
        upstream = tf.constant(upstream, tf.float32)
    return np.asarray(tape.gradient(y, x, upstream))


@pytest.mark.parametrize("name", KERNEL)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 10.0))
@settings(max_examples=15, deadline=None)
def test_a_finished_kernel_is_plus_minus_one_scale_per_channel(name, seed, scale):
    quantized = getattr(quantizers, name)(kernel(seed, scale=scale), tf.constant(1.0)).numpy()
    size = np.abs(quantized)
    assert np.all(size > 0)
    np.testing.assert_array_equal(size, np.broadcast_to(size[:1, :1, :1], size.shape))


@pytest.mark.parametrize("name", KERNEL)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 10.0))
@settings(max_examples=15, deadline=None)
def test_larqs_quantizer_gives_the_same_bits(name, seed, scale):
    ours = quantizers.lq.quantizers.get(name)
    w = kernel(seed, scale=scale)
    larqs, latent = ours.deployed(w)
    assert type(larqs).__module__.startswith("larq")
    np.testing.assert_array_equal(larqs(latent), ours(w))


@pytest.mark.parametrize("name", KERNEL)
def test_a_constant_kernel_stays_finite_and_binary(name):
    function = getattr(quantizers, name)
    constant = tf.fill((3, 3, 2, 2), 0.25)
    quantized = function(constant, tf.constant(1.0)).numpy()
    assert np.all(np.isfinite(quantized))
    assert np.all(quantized != 0)
    assert np.all(np.isfinite(gradient(lambda w: function(w, tf.constant(1.0)), constant)))


def test_quadratic_sign_is_larqs_approx_sign():
    x = np.concatenate([np.linspace(-3, 3, 601), [-1.0, -0.0, 0.0, 1.0]]).astype("float32")
    upstream = np.random.default_rng(0).normal(size=x.shape)
    larqs = quantizers.lq.quantizers.get("approx_sign")
    ours = quantizers.lq.quantizers.get("quadratic_sign")
    np.testing.assert_array_equal(ours(x), larqs(x))
    np.testing.assert_allclose(gradient(ours, x, upstream), gradient(larqs, x, upstream), rtol=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_ede_is_the_sign_under_a_sharpening_bell(progress):
    x = np.linspace(-3, 3, 601).astype("float32")
    q = quantizers.ede_sign(tf.constant(x), tf.constant(progress))
    np.testing.assert_array_equal(q, np.where(x < 0, -1, 1))
    t = 10 ** (-1 + 2 * progress)
    expected = max(1 / t, 1) * t * (1 - np.tanh(t * x) ** 2)
    slope = gradient(lambda v: quantizers.ede_sign(v, tf.constant(progress)), x)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-5)


def test_ede_begins_nearly_straight_through_and_ends_steep():
    x = np.array([0.0, 1.0], "float32")
    early, late = (
        gradient(lambda v, p=p: quantizers.ede_sign(v, tf.constant(p)), x) for p in (0.0, 1.0)
    )
    np.testing.assert_allclose(early, [1.0, 0.990], atol=1e-3)
    np.testing.assert_allclose(late, [10.0, 0.0], atol=1e-3)


def test_libra_balances_and_scales_by_a_power_of_two():
    w = kernel()
    q = quantizers.libra_sign(w, tf.constant(0.5)).numpy()
    centred = w.numpy() - w.numpy().mean((0, 1, 2))
    np.testing.assert_array_equal(np.sign(q), np.sign(centred))
    assert not np.array_equal(np.sign(q), np.sign(w))
    assert np.all(np.log2(np.abs(q)) % 1 == 0)
    # the gradient goes through the standardisation: none along the mean of a channel
    upstream = np.random.default_rng(1).normal(size=w.shape)
    slope = gradient(lambda v: quantizers.libra_sign(v, tf.constant(0.5)), w, upstream)
    np.testing.assert_allclose(slope.sum((0, 1, 2)), 0, atol=1e-3 * np.abs(slope).max())


def test_recu_has_no_gradient_beyond_the_clamp_and_clamps_less_and_less():
    w = kernel(shape=(3, 3, 64, 4))
    upstream = np.random.default_rng(1).normal(size=w.shape)
    outside = []
    for progress in (0.0, 0.5, 1.0):
        spread = quantizers.standardise(w).numpy() * 2 * np.sqrt(2)
        tau = 0.85 + 0.14 * (np.exp(progress) - 1) / (np.e - 1)
        dead = np.abs(spread) > -np.abs(spread).mean() * np.log(2 - 2 * tau)
        outside.append(dead.mean())

        def clamped(v, progress=progress):
            return quantizers.recu_sign(v, tf.constant(progress))

        slope = gradient(clamped, w, np.where(dead, upstream, 0))
        np.testing.assert_allclose(slope, 0, atol=1e-5)
        assert np.any(gradient(clamped, w, upstream) != 0)
    assert outside[0] > outside[1] > outside[2]


def test_staged_is_the_kernel_and_then_larqs_magnitude_aware_sign():
    w = kernel()
    np.testing.assert_array_equal(quantizers.staged_sign(w, tf.constant(0.0)), w)
    larqs = quantizers.lq.quantizers.MagnitudeAwareSign()(w)
    np.testing.assert_array_equal(quantizers.staged_sign(w, tf.constant(1.0)), larqs)
    first = gradient(lambda v: quantizers.staged_sign(v, tf.constant(0.0)), w)
    np.testing.assert_array_equal(first, np.ones(w.shape))


@pytest.mark.parametrize("name", ["masked_sign", "masked_kernel"])
def test_a_mask_makes_its_share_binary_without_gradient(name):
    function = getattr(quantizers, name)
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (8, 8, 8, 16)).astype("float32")
    for progress in (0.0, 0.25, 0.75, 1.0):
        p = tf.constant(progress)
        y = function(tf.constant(x), p).numpy()
        real = y == np.clip(x, -1, 1)
        inside = np.abs(x) < 1
        # four standard errors of the share over the entries inside
        error = 4 * np.sqrt(progress * (1 - progress) / inside.sum())
        assert np.mean(~real[inside]) == pytest.approx(progress, abs=error + 1e-9)
        slope = gradient(lambda v, p=p: function(v, p), x)
        np.testing.assert_array_equal(slope, (real & inside).astype("float32"))
        np.testing.assert_array_equal(function(tf.constant(x), p), y)  # the same mask again
    binary = x.size if name == "masked_sign" else None
    if binary:
        assert np.all(np.abs(y) == 1)


@pytest.mark.parametrize("name", ["masked_sign", "masked_kernel"])
def test_a_straight_through_mask_has_the_same_values_and_the_clips_gradient(name):
    function = getattr(quantizers, name)
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (4, 4, 4, 8)).astype("float32")
    for progress in (0.0, 0.5, 1.0):
        p = tf.constant(progress)
        np.testing.assert_array_equal(function(tf.constant(x), p, True), function(x, p))
        slope = gradient(lambda v, p=p: function(v, p, True), x)
        np.testing.assert_array_equal(slope, (np.abs(x) < 1).astype("float32"))


def test_masks_of_two_steps_differ():
    x = tf.zeros((64, 64)) + 0.5
    a, b = (quantizers.masked_sign(x, tf.constant(p)) for p in (0.5, 0.5001))
    assert np.mean(np.asarray(a) != np.asarray(b)) > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip_and_the_end_as_the_initial_state(name):
    quantizer = quantizers.lq.quantizers.get(name)
    assert float(quantizer.progress) == 1.0
    assert quantizer.binary
    twin = quantizers.lq.quantizers.get(quantizers.lq.quantizers.serialize(quantizer))
    assert type(twin) is type(quantizer)
    assert twin.get_config() == quantizer.get_config()
    quantizer.progress.assign(0.5)
    assert quantizer.binary == quantizer.always_binary


@pytest.mark.parametrize("activation", [*ACTIVATION, "ste_sign"])
@pytest.mark.parametrize("name", [*KERNEL, "magnitude_aware_sign"])
def test_layers_take_quantizers_by_name_and_keep_their_progress(name, activation, tmp_path):
    image = keras.Input((6, 6, 4))
    y = BitatConv2D(5, 3, kernel_quantizer=name, name="conv")(RSign(activation, name="s")(image))
    model = keras.Model(image, y)
    annealed = [w for w in model.non_trainable_weights if "progress" in w.name]
    assert len(annealed) == (name in KERNEL) + (activation in ACTIVATION)
    for variable in annealed:
        variable.assign(0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = tf.random.normal((2, 6, 6, 4))
    np.testing.assert_array_equal(model(x), loaded(x))


def test_an_inactive_rsign_passes_its_input_whatever_the_quantizer():
    layer = RSign("ede_sign")
    x = tf.random.normal((2, 3))
    layer(x)
    layer.active.assign(False)
    np.testing.assert_array_equal(layer(x), x)
