"""The weighted error is the sum over directions; a release ends at the signs, step by step."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf import importance, linalg
from bitat_tf._keras import keras, tf
from bitat_tf.layers import BitatConv2D
from bitat_tf.quantizers import lq

SHAPE = (3, 3, 4, 6)
INPUTS = 36

# The number of blocks, and what the data are made from.
problems = st.tuples(st.sampled_from([1, 2, 6]), st.integers(0, 2**20))


def make(blocks, seed, scale=0.2):
    """A kernel, and correlation, V and s of correlated signs; float32 as in training."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(150, INPUTS)) @ rng.normal(size=(INPUTS, INPUTS))
    correlation = linalg.batch_correlation(np.where(samples < 0, -1.0, 1.0), blocks)
    vectors, weights = linalg.basis(correlation)
    kernel = rng.normal(0.05, scale, SHAPE)
    return tuple(tf.constant(a, tf.float32) for a in (kernel, correlation, vectors, weights))


def rows(kernel):
    return np.asarray(kernel, np.float64).reshape(INPUTS, -1)


def dense(blocks):
    """A block-diagonal matrix in full."""
    full = np.zeros((INPUTS, INPUTS))
    size = blocks.shape[1]
    for index, block in enumerate(np.asarray(blocks)):
        part = slice(index * size, (index + 1) * size)
        full[part, part] = block
    return full


@given(problems)
@settings(max_examples=20, deadline=None)
def test_the_scale_is_that_of_the_closed_form(problem):
    kernel, correlation, _, _ = make(*problem)
    full, signs = dense(correlation), np.where(rows(kernel) < 0, -1.0, 1.0)
    expected = linalg.optimal_scale(full, full @ rows(kernel), signs)
    alpha = importance.least_squares_scale(kernel, correlation)
    np.testing.assert_allclose(alpha, expected, rtol=1e-4, atol=1e-5)


@given(problems)
@settings(max_examples=20, deadline=None)
def test_the_error_is_the_sum_over_directions_by_their_importance(problem):
    kernel, correlation, vectors, weights = make(*problem)
    signs = np.where(rows(kernel) < 0, -1.0, 1.0)
    alpha = importance.least_squares_scale(kernel, correlation).numpy()
    total = np.trace(rows(kernel).T @ dense(correlation) @ rows(kernel))
    by_direction = linalg.importance_weighted_error(
        vectors.numpy(), weights.numpy(), rows(kernel) - alpha * signs
    )
    error = float(importance.quantization_error(kernel, correlation))
    assert error * total == pytest.approx(by_direction, rel=1e-3, abs=1e-5)
    assert 0 <= error <= 1 + 1e-5  # alpha is the best scale, and 0 would give 1


def test_the_error_falls_along_its_gradient_and_not_with_the_kernels_size():
    kernel, correlation, _, _ = make(2, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        error = importance.quantization_error(kernel, correlation)
    slope = tape.gradient(error, kernel)
    assert float(importance.quantization_error(3.0 * kernel, correlation)) == pytest.approx(
        float(error), rel=1e-5
    )
    assert abs(float(tf.reduce_sum(slope * kernel))) < 1e-4 * float(
        tf.norm(slope) * tf.norm(kernel)
    )
    step = 1e-2 * slope / tf.norm(slope)
    fallen = importance.quantization_error(kernel - step, correlation)
    expected = float(error) - 1e-2 * float(tf.norm(slope))
    assert float(fallen) == pytest.approx(expected, rel=2e-2)


def test_a_binary_kernel_has_no_error_and_a_dead_layer_neither():
    signs = tf.sign(make(1, seed=2)[0])
    _, correlation, _, _ = make(1, seed=2)
    error = importance.quantization_error(0.3 * signs, correlation)
    assert float(error) == pytest.approx(0.0, abs=1e-5)
    for kernel, c in ((signs, tf.zeros_like(correlation)), (tf.zeros(SHAPE), correlation)):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            error = importance.quantization_error(kernel, c)
        assert float(error) == 0.0
        assert np.all(np.isfinite(tape.gradient(error, kernel)))


@given(st.integers(0, 2**20), st.booleans())
@settings(max_examples=30, deadline=None)
def test_directions_are_released_by_importance_and_stay_so(seed, most_first):
    # few distinct values: ties, which are broken in order
    weights = np.random.default_rng(seed).integers(0, 5, (3, 7)).astype("float32")
    before = np.zeros_like(weights)
    for share in np.linspace(0, 1, 12):
        released = importance.released_directions(weights, np.float32(share), most_first).numpy()
        assert set(np.unique(released)) <= {0.0, 1.0}
        assert released.sum() == pytest.approx(np.ceil(21 * np.float32(share)), abs=1)
        assert np.all(released >= before)
        if 0 < released.sum() < released.size:
            inside, outside = weights[released == 1], weights[released == 0]
            if most_first:
                assert inside.min() >= outside.max()
            else:
                assert inside.max() <= outside.min()
        if share == 0:
            assert released.sum() == 0
        before = released
    assert np.all(before == 1)


@given(problems, st.floats(1e-3, 1.0))
@settings(max_examples=20, deadline=None)
def test_a_release_ends_exactly_binary_and_starts_at_the_kernel_over_its_scale(problem, scale):
    kernel, correlation, vectors, weights = make(*problem, scale)
    released = tf.ones_like(weights)
    quantized = importance.partly_binary(kernel, correlation, vectors, released).numpy()
    np.testing.assert_array_equal(quantized, np.where(kernel.numpy() < 0, -1.0, 1.0))
    start = importance.partly_binary(kernel, correlation, vectors, 1.0 - released).numpy()
    ratio = rows(start) / rows(kernel)
    np.testing.assert_allclose(start, kernel * ratio.mean(0), atol=1e-3 * np.abs(start).max())


@given(problems)
@settings(max_examples=10, deadline=None)
def test_one_more_direction_changes_the_kernel_in_that_direction_alone(problem):
    # so the error that a release adds under C is the sum of s_k times that, and has no jump
    kernel, correlation, vectors, weights = make(*problem)
    signs = np.where(rows(kernel) < 0, -1.0, 1.0)
    errors, kernels = [], []
    for count in (0, 1, 17, 34, 35, 36):
        released = importance.released_directions(weights, count / 36 - 1e-4, True)
        assert float(tf.reduce_sum(released)) == max(count, 0)
        kernels.append(rows(importance.partly_binary(kernel, correlation, vectors, released)))
        errors.append(np.sum(((dense(vectors).T @ (kernels[-1] - kernels[0])) ** 2), axis=1))
    last = dense(vectors).T @ (kernels[-1] - kernels[-2])
    assert np.sum(np.abs(last).max(1) > 1e-3 * np.abs(signs).max()) <= 1
    for earlier, later in itertools.pairwise(errors):
        assert np.all(later >= earlier - 1e-3 * later.max())  # monotone, direction by direction


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_gradient_is_straight_through_whatever_is_released(share):
    _, correlation, vectors, weights = make(2, seed=5)
    kernel = tf.constant(np.random.default_rng(0).uniform(-1.3, 1.3, SHAPE), tf.float32)
    upstream = tf.constant(np.random.default_rng(1).normal(size=SHAPE), tf.float32)
    released = importance.released_directions(weights, share, True)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        quantized = importance.partly_binary(kernel, correlation, vectors, released)
    slope = tape.gradient(quantized, kernel, upstream)
    np.testing.assert_array_equal(slope, tf.where(tf.abs(kernel) <= 1, upstream, 0.0))


def test_kernels_without_a_scale_of_their_own_stay_finite():
    kernel, correlation, vectors, weights = make(1, seed=6)
    for w, c in ((tf.zeros(SHAPE), correlation), (kernel, tf.zeros_like(correlation))):
        quantized = importance.partly_binary(w, c, vectors, tf.zeros_like(weights))
        assert np.all(np.isfinite(quantized))


@pytest.mark.parametrize("order", ["most_first", "least_first"])
def test_a_layer_built_for_release_is_the_plain_one_at_its_end(order):
    released = BitatConv2D(6, 3, max_block=12, kernel_quantizer=f"release_{order}")
    plain = BitatConv2D(6, 3, max_block=12)
    x = tf.where(tf.random.normal((2, 7, 7, 4)) < 0, -1.0, 1.0)
    for layer in (released, plain):
        layer.build(x.shape)
    kernel, correlation, vectors, weights = make(3, seed=7)
    for layer in (released, plain):
        layer.kernel.latent_variable.assign(kernel)
        layer.transform.assign(correlation, vectors, weights)
    quantizer = released.kernel_quantizer
    assert quantizer.binary
    np.testing.assert_array_equal(released(x), plain(x))
    quantizer.progress.assign(0.5)
    assert not quantizer.binary
    m = importance.released_directions(weights, 0.5, order == "most_first")
    expected = importance.partly_binary(kernel, correlation, vectors, m)
    np.testing.assert_allclose(
        released.patches(x) @ rows(expected), tf.reshape(released(x), (-1, 6)), atol=1e-4
    )
    quantizer.progress.assign(1.0)
    larqs, latent = quantizer.deployed(kernel)
    assert type(larqs).__module__.startswith("larq")
    np.testing.assert_array_equal(larqs(latent), quantizer(kernel))
    twin = BitatConv2D.from_config(released.get_config())
    assert type(twin.kernel_quantizer) is type(quantizer)
    # the transform is the layer's state: it is not counted twice
    names = [weight.name for weight in released.weights]
    assert len(released.weights) == len(plain.weights) + 1, names


def graph_operations(kernel_quantizer):
    layer = BitatConv2D(6, 3, kernel_quantizer=kernel_quantizer)
    layer.build((None, 7, 7, 4))
    function = tf.function(layer).get_concrete_function(tf.TensorSpec((2, 7, 7, 4)))
    names = {op.type for op in function.graph.get_operations()}
    inner = function.graph.as_graph_def().library.function
    return names | {node.op for f in inner for node in f.node_def}


def test_a_layer_not_built_for_release_has_nothing_of_it_in_its_graph():
    assert {"BatchMatMulV2", "TopKV2"} <= graph_operations("release_most_first")
    assert not {"BatchMatMulV2", "TopKV2", "If", "StatelessIf"} & graph_operations("ste_sign")


def test_a_release_quantizer_belongs_to_one_layer():
    quantizer = lq.quantizers.get("release_most_first")
    with pytest.raises(ValueError, match=r"whose transform it reads\. Received: none"):
        quantizer(tf.ones(SHAPE))
    BitatConv2D(6, 3, kernel_quantizer=quantizer)
    with pytest.raises(ValueError, match="belongs to one BitatConv2D"):
        BitatConv2D(6, 3, kernel_quantizer=quantizer)


@pytest.mark.parametrize("progress", [0.5, 1.0])
def test_a_student_in_release_survives_saving(tmp_path, progress):
    inputs = keras.Input((6, 6, 4))
    name = "release_least_first"
    model = keras.Model(inputs, BitatConv2D(6, 3, name="conv", kernel_quantizer=name)(inputs))
    kernel, correlation, vectors, weights = make(1, seed=8)
    layer = model.get_layer("conv")
    layer.kernel.latent_variable.assign(kernel)
    layer.transform.assign(correlation, vectors, weights)
    layer.kernel_quantizer.progress.assign(progress)
    x = np.where(np.random.default_rng(0).normal(size=(3, 6, 6, 4)) < 0, -1, 1).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert float(loaded.get_layer("conv").kernel_quantizer.progress) == progress
    np.testing.assert_array_equal(loaded(x), model(x))
