"""The equations: each test asserts the property that the method rests on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf import linalg
from bitat_tf._keras import tf

BFLOAT16 = tf.bfloat16.as_numpy_dtype

# Small problems of all shapes; the seed makes the data.
problems = st.tuples(
    st.integers(1, 12), st.integers(1, 5), st.integers(2, 40), st.integers(0, 10_000)
)


def make(inputs, outputs, positions, seed):
    rng = np.random.default_rng(seed)
    x = np.where(rng.normal(size=(positions, inputs)) < rng.normal(size=inputs), -1.0, 1.0)
    t = x @ rng.normal(size=(inputs, outputs)) + rng.normal(size=(positions, outputs))
    return x, t


@given(problems)
@settings(deadline=None, max_examples=60)
def test_moments_are_the_covariances(problem):
    x, t = make(*problem)
    point = linalg.moments(x, t)
    centred_x, centred_t = x - x.mean(0), t - t.mean(0)
    np.testing.assert_allclose(point.correlation, centred_x.T @ centred_x / len(x), atol=1e-12)
    np.testing.assert_allclose(
        point.target_correlation, centred_x.T @ centred_t / len(x), atol=1e-10
    )
    np.testing.assert_allclose(point.target_variance, t.var(0), atol=1e-9)


def test_moments_of_batches_add_up():
    x, t = make(6, 3, 30, seed=1)
    omega = np.random.default_rng(2).uniform(size=30)
    whole = linalg.moments(x, t, omega)
    parts = linalg.moments(x[:11], t[:11], omega[:11]) + linalg.moments(x[11:], t[11:], omega[11:])
    np.testing.assert_allclose(parts.correlation, whole.correlation, atol=1e-12)
    np.testing.assert_allclose(parts.target_correlation, whole.target_correlation, atol=1e-12)


def test_a_weight_of_two_counts_a_position_twice():
    x, t = make(4, 2, 10, seed=3)
    omega = np.ones(10)
    omega[0] = 2.0
    twice = linalg.moments(np.vstack([x, x[:1]]), np.vstack([t, t[:1]]))
    np.testing.assert_allclose(linalg.moments(x, t, omega).correlation, twice.correlation)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (np.ones((2, 3), np.float16), np.ones((2, 1)), "`x` must be .* half precision"),
        (np.ones((2, 3)), np.ones((2, 1), BFLOAT16), "`t` must be .* half precision"),
        (np.ones((2, 3)), np.array([[1.0], [np.nan]]), "`t` holds NaN"),
        (np.array([[np.inf], [1.0]]), np.ones((2, 1)), "`x` holds NaN or infinity"),
        (np.ones((2, 3)), np.ones((3, 1)), "same, positive number of rows"),
        (np.ones((0, 3)), np.ones((0, 1)), "positive number of rows"),
        (np.ones(3), np.ones((3, 1)), "two-dimensional"),
    ],
)
def test_moments_refuse(x, t, message):
    with pytest.raises(ValueError, match=message):
        linalg.moments(x, t)


@pytest.mark.parametrize(
    ("omega", "message"),
    [
        (np.ones(2, np.float16), "`omega` must be .* half precision"),
        (np.array([1.0, -1.0]), "non-negative"),
        (np.array([1.0, np.nan]), "finite"),
        (np.ones(3), "one .* per row"),
    ],
)
def test_moments_refuse_weights(omega, message):
    with pytest.raises(ValueError, match=message):
        linalg.moments(np.ones((2, 3)), np.ones((2, 1)), omega)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_constant_correlates_with_nothing_in_float32_either(weighted):
    # Sums of 100,000 float32 products are off by 1e-7 or so, which a dead layer must not divide
    # by a ridge just as small: of a constant input only float64's rounding may be left.
    rng = np.random.default_rng(0)
    x = np.where(rng.normal(size=(100_000, 6)) < 0, -1.0, 1.0).astype("float32")
    x[:, ::2] = [1.0, -1.0, 0.1]
    t = (0.7 + 0.3 * rng.normal(size=(100_000, 3))).astype("float32")
    t[:, 1] = 0.1
    omega = rng.exponential(size=100_000).astype("float32") if weighted else None
    point = linalg.moments(x, t, omega)
    np.testing.assert_allclose(point.correlation[::2], 0.0, atol=1e-15)
    np.testing.assert_allclose(point.target_correlation[::2], 0.0, atol=1e-15)
    np.testing.assert_allclose(point.target_correlation[:, 1], 0.0, atol=1e-15)


def test_a_large_mean_costs_no_precision():
    x, t = make(6, 3, 10_000, seed=4)
    exact = linalg.moments(x, t).target_correlation
    far = linalg.moments(x.astype("float32"), (t + 4096.0).astype("float32"))
    # float32 holds 4096 to 2.4e-4 and the errors average out; uncentred sums were off by 1e-2
    np.testing.assert_allclose(far.target_correlation, exact, atol=1e-4)


def test_positions_of_no_weight_do_not_count():
    x, t = make(5, 2, 30, seed=6)
    nothing = linalg.moments(x, t, np.zeros(30))
    both = nothing + linalg.moments(x[:20], t[:20])
    alone = linalg.moments(x[:20], t[:20])
    np.testing.assert_allclose(both.correlation, alone.correlation, atol=1e-12)
    np.testing.assert_allclose(both.target_correlation, alone.target_correlation, atol=1e-12)


@given(problems, st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_basis_is_orthonormal_and_diagonalises(problem, max_block):
    x, t = make(*problem)
    correlation = linalg.moments(x, t).correlation
    blocks = linalg.diagonal_blocks(correlation, linalg.block_count(len(correlation), max_block))
    vectors, importance = linalg.basis(blocks)
    for block, v, s in zip(blocks, vectors, importance, strict=True):
        np.testing.assert_allclose(v.T @ v, np.eye(len(v)), atol=1e-10)
        np.testing.assert_allclose(v @ np.diag(s) @ v.T, block, atol=1e-10)
        assert np.all(np.diff(s) <= 1e-12)
        assert np.all(s >= 0)


def test_basis_of_a_rank_deficient_correlation_is_still_orthonormal():
    x, t = make(10, 2, 4, seed=0)
    x[:, 3] = 1.0  # a dead channel
    vectors, _ = linalg.basis(linalg.moments(x, t).correlation[None])
    np.testing.assert_allclose(vectors[0].T @ vectors[0], np.eye(10), atol=1e-10)


def test_basis_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        linalg.basis(np.full((1, 2, 2), np.nan))


@pytest.mark.parametrize(
    ("size", "max_block", "blocks"), [(4608, 1152, 4), (27, 1152, 1), (9, 4, 3), (7, 3, 7)]
)
def test_blocks_are_equal_and_small_enough(size, max_block, blocks):
    assert linalg.block_count(size, max_block) == blocks
    assert size % blocks == 0
    assert size // blocks <= max_block


@given(problems)
@settings(deadline=None, max_examples=60)
def test_error_is_the_sum_over_directions_by_their_importance(problem):
    # E||(W - W')^T (x - mu)||^2 = sum_k s_k ||(V^T (W - W'))_k||^2
    x, t = make(*problem)
    difference = np.random.default_rng(problem[-1]).normal(size=(problem[0], problem[1]))
    vectors, importance = linalg.basis(linalg.moments(x, t).correlation[None])
    measured = np.mean(np.sum(((x - x.mean(0)) @ difference) ** 2, axis=1))
    assert linalg.importance_weighted_error(vectors, importance, difference) == pytest.approx(
        measured, abs=1e-9
    )


@given(problems, st.sampled_from([1, 2, 3]))
@settings(deadline=None, max_examples=40)
def test_the_correlation_of_a_batch_is_that_of_its_moments(problem, blocks):
    _, outputs, positions, seed = problem
    x, t = make(6, outputs, positions, seed)
    expected = linalg.diagonal_blocks(linalg.moments(x, t).correlation, blocks)
    np.testing.assert_allclose(linalg.batch_correlation(x, blocks), expected, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(0, 0.99), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=20)
def test_the_basis_stays_orthonormal_and_true_over_many_refreshes(seed, momentum, blocks):
    # in float32, as the layers hold it; fewer positions than inputs, and one dead input
    rng = np.random.default_rng(seed)
    tracked = np.tile(np.eye(24 // blocks, dtype=np.float32), (blocks, 1, 1))
    mixing = rng.normal(size=(24, 24))
    for _ in range(30):
        mixing += 0.3 * rng.normal(size=mixing.shape)
        x = np.where(rng.normal(size=(10, 24)) @ mixing < 0, -1.0, 1.0)
        x[:, 5] = 1.0
        measured = linalg.batch_correlation(x, blocks)
        tracked = linalg.moving_average(tracked, measured, momentum).astype(np.float32)
        vectors, importance = (a.astype(np.float32) for a in linalg.basis(tracked))
        for c, v, s in zip(tracked, vectors, importance, strict=True):
            np.testing.assert_allclose(v.T @ v, np.eye(len(v)), atol=1e-5)
            np.testing.assert_allclose(v @ np.diag(s) @ v.T, c, atol=1e-4)
            assert np.all(s >= 0)
            assert np.all(np.diff(s) <= 0)


def test_a_moving_average_forgets_its_start_and_comes_to_what_it_is_given():
    x, _ = make(6, 1, 40, seed=21)
    measured = linalg.batch_correlation(x, 2)
    tracked = np.tile(np.eye(3), (2, 1, 1))
    np.testing.assert_array_equal(linalg.moving_average(tracked, measured, 0.0), measured)
    for count in range(1, 30):
        tracked = linalg.moving_average(tracked, measured, 0.5)
        left = 0.5**count * (np.eye(3) - measured)
        np.testing.assert_allclose(tracked - measured, left, atol=1e-12)


def test_rotate_and_unrotate_are_inverse():
    x, t = make(12, 3, 50, seed=5)
    blocks = linalg.diagonal_blocks(linalg.moments(x, t).correlation, 3)
    vectors, _ = linalg.basis(blocks)
    w = np.random.default_rng(0).normal(size=(12, 3))
    np.testing.assert_allclose(linalg.unrotate(vectors, linalg.rotate(vectors, w)), w)


@pytest.mark.parametrize("blocks", [1, 2, 3, 6, 12])
def test_compensation_solves_the_ridge_equations_for_any_blocks(blocks):
    x, t = make(12, 4, 80, seed=7)
    point = linalg.moments(x, t)
    correlation, target = point.correlation, point.target_correlation
    vectors, importance = linalg.basis(linalg.diagonal_blocks(correlation, blocks))
    kernel = linalg.compensate(correlation, target, vectors, importance, 0.01)
    exact = np.linalg.solve(correlation + 0.01 * np.eye(12), target)
    np.testing.assert_allclose(kernel, exact, atol=1e-10)


def test_compensation_of_a_target_without_relation_is_zero():
    x, _ = make(6, 2, 30, seed=9)
    point = linalg.moments(x, np.zeros((30, 2)))
    vectors, importance = linalg.basis(linalg.diagonal_blocks(point.correlation, 2))
    kernel = linalg.compensate(
        point.correlation, point.target_correlation, vectors, importance, 0.1
    )
    assert np.all(kernel == 0)


@pytest.mark.parametrize("blocks", [1, 5])
def test_more_inputs_than_positions_are_solved_by_the_ridge(blocks):
    x, t = make(40, 3, 8, seed=21)  # C has rank 7 at most
    point = linalg.moments(x, t)
    vectors, importance = linalg.basis(linalg.diagonal_blocks(point.correlation, blocks))
    strength = linalg.ridge_strength(importance, 1e-2)
    kernel = linalg.compensate(
        point.correlation, point.target_correlation, vectors, importance, strength
    )
    gram = point.correlation + strength * np.eye(40)
    np.testing.assert_allclose(gram @ kernel, point.target_correlation, atol=1e-10)
    signs, alpha = linalg.binary_least_squares(gram, point.target_correlation, kernel)
    assert np.all(np.isfinite(alpha))
    assert linalg.unexplained_variance(point, kernel) < 0.1
    assert 0 <= linalg.unexplained_variance(point, signs * alpha) < 1


def quadratic_error(gram, real, signs, alpha):
    difference = real - signs * alpha
    return np.sum(difference * (gram @ difference))


@given(problems)
@settings(deadline=None, max_examples=80)
def test_binary_least_squares_is_never_worse_than_the_signs_it_starts_from(problem):
    x, t = make(*problem)
    point = linalg.moments(x, t)
    gram = point.correlation + 0.01 * np.eye(problem[0])
    real = np.linalg.solve(gram, point.target_correlation)
    start = np.where(real < 0, -1.0, 1.0)
    start_scale = linalg.optimal_scale(gram, gram @ real, start)
    signs, alpha = linalg.binary_least_squares(gram, gram @ real, real)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    assert np.all(alpha >= 0)
    assert (
        quadratic_error(gram, real, signs, alpha)
        <= quadratic_error(gram, real, start, start_scale) + 1e-9
    )


def test_binary_least_squares_ends_where_no_single_flip_helps():
    # 150 rows: more than two slabs of the blocked sweep
    x, t = make(150, 3, 400, seed=11)
    point = linalg.moments(x, t)
    gram = point.correlation + 0.05 * np.eye(150)
    real = np.linalg.solve(gram, point.target_correlation)
    signs, alpha = linalg.binary_least_squares(gram, gram @ real, real, sweeps=200)
    best = quadratic_error(gram, real, signs, alpha)
    for k in range(150):
        for n in range(3):
            flipped = signs.copy()
            flipped[k, n] *= -1
            assert quadratic_error(gram, real, flipped, alpha) >= best - 1e-9


def test_binary_least_squares_finds_a_kernel_that_is_binary_already():
    x, t = make(8, 2, 60, seed=13)
    gram = linalg.moments(x, t).correlation + 0.01 * np.eye(8)
    signs = np.where(np.random.default_rng(1).normal(size=(8, 2)) < 0, -1.0, 1.0)
    alpha = np.array([0.3, 2.0])
    found, scale = linalg.binary_least_squares(gram, gram @ (signs * alpha), signs)
    np.testing.assert_array_equal(found, signs)
    np.testing.assert_allclose(scale, alpha)


def test_a_start_that_points_away_is_turned_round():
    gram, real = np.eye(4), np.ones((4, 1))
    signs, alpha = linalg.binary_least_squares(gram, gram @ real, -real)
    np.testing.assert_array_equal(signs, real)
    np.testing.assert_allclose(alpha, [1.0])


def test_unexplained_variance_is_the_measured_residual():
    x, t = make(7, 3, 90, seed=15)
    kernel = np.random.default_rng(2).normal(size=(7, 3))
    residual = (t - t.mean(0)) - (x - x.mean(0)) @ kernel
    assert linalg.unexplained_variance(linalg.moments(x, t), kernel) == pytest.approx(
        residual.var(0).sum() / t.var(0).sum()
    )


def test_a_target_that_does_not_vary_leaves_nothing_unexplained():
    x, _ = make(7, 3, 1000, seed=15)
    t = np.full((1000, 3), [0.1, 3.7, -1000.3], "float32")
    kernel = np.ones((7, 3))
    assert linalg.unexplained_variance(linalg.moments(x, t), kernel) == 0.0


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.01, 1.0))
@settings(deadline=None, max_examples=60)
def test_magnitudes_scaled_to_a_mean_have_it_and_keep_their_proportions(seed, size, mean):
    magnitudes = np.random.default_rng(seed).gamma(0.5, size=size)
    scaled = linalg.scaled_to_mean(magnitudes, mean)
    assert scaled.mean() == pytest.approx(mean)
    assert np.all((scaled >= 0) & (scaled <= 1))
    below = scaled < 1
    ratios = scaled[below] / magnitudes[below]
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[:1], ratios.shape))
    assert np.all(magnitudes[~below] >= np.max(magnitudes[below], initial=0))


def test_magnitudes_that_are_zero_are_scaled_as_far_as_they_can_be():
    alike = linalg.scaled_to_mean(np.zeros((2, 3)), 0.3)
    np.testing.assert_array_equal(alike, np.full((2, 3), 0.3))
    half = linalg.scaled_to_mean(np.array([0.0, 2.0, 0.0, 5.0]), 0.9)
    np.testing.assert_array_equal(half, [0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize("epsilon", [1e-3, 1.0])
def test_closed_form_batchnorm_reproduces_scale_and_mean_exactly(epsilon):
    x, t = make(9, 4, 70, seed=17)
    point = linalg.moments(x, t)
    signs = np.where(np.random.default_rng(3).normal(size=(9, 4)) < 0, -1.0, 1.0)
    alpha = np.array([0.1, 1.0, 0.0, 3.0])
    bn = linalg.closed_form_batchnorm(point, signs, alpha, epsilon)
    z = x @ signs
    normalised = bn.gamma * (z - bn.moving_mean) / np.sqrt(bn.moving_variance + epsilon) + bn.beta
    np.testing.assert_allclose(normalised, alpha * (z - z.mean(0)) + t.mean(0), atol=1e-10)
    np.testing.assert_allclose(bn.moving_variance, z.var(0), atol=1e-10)


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(deadline=None, max_examples=60)
def test_lloyd_max_is_a_fixed_point_and_no_split_is_better(seed, samples):
    values = np.random.default_rng(seed).gamma(0.7, size=(samples, 1))
    (threshold,) = linalg.lloyd_max_threshold(values)
    low, high = values[values <= threshold], values[values > threshold]
    assert threshold == pytest.approx(0.5 * (low.mean() + high.mean()))

    def within(split):
        ordered = np.sort(values[:, 0])
        return ordered[:split].var() * split + ordered[split:].var() * (samples - split)

    chosen = within(len(low))
    assert chosen <= min(within(split) for split in range(1, samples)) + 1e-9


def test_lloyd_max_of_a_constant_channel_is_its_value():
    np.testing.assert_allclose(linalg.lloyd_max_threshold(np.full((5, 2), 3.0)), [3.0, 3.0])
    np.testing.assert_allclose(linalg.lloyd_max_threshold(np.full((1, 2), 3.0)), [3.0, 3.0])


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_several_lloyd_max_thresholds_lie_midway_between_the_means_beside_them(
    seed, samples, count
):
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.normal([0.0, 5.0], size=(samples, 2)), 0.0)  # with ties at 0
    found = linalg.lloyd_max_thresholds(values, count)
    assert found.shape == (count, 2)
    assert np.all(np.diff(found, axis=0) >= -1e-12)
    for column, thresholds in zip(values.T, found.T, strict=True):
        cells = np.searchsorted(thresholds, column)
        means = {cell: column[cells == cell].mean() for cell in range(count + 1) if cell in cells}
        for below, above in zip(sorted(means), sorted(means)[1:], strict=False):
            if above == below + 1:  # no empty cell between them
                assert thresholds[below] == pytest.approx(0.5 * (means[below] + means[above]))


def test_each_further_threshold_keeps_more_of_the_signal():
    values = np.random.default_rng(0).normal(size=(4000, 1))
    lost = []
    for count in (1, 2, 3):
        thresholds = linalg.lloyd_max_thresholds(values, count)[:, 0]
        cells = np.searchsorted(thresholds, values[:, 0])
        lost.append(sum(values[cells == c].var() * np.mean(cells == c) for c in range(count + 1)))
    # the known distortions of the optimal quantizer of a Gaussian (Max 1960, table 1)
    np.testing.assert_allclose(lost, [0.3634, 0.1902, 0.1175], rtol=0.05)


def test_thresholds_of_a_constant_channel_are_its_value():
    np.testing.assert_array_equal(
        linalg.lloyd_max_thresholds(np.full((5, 2), 0.1), 3), np.full((3, 2), 0.1)
    )
