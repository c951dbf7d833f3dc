"""How a step is computed: in parts, in bfloat16, by XLA; the same in both trainers."""

import numpy as np
import pytest

from bitat_tf import models, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import ScaleConfig
from bitat_tf.layers import BitatConv2D
from bitat_tf.train.precision import bfloat16_twin

STEPS = 3


def trained(student, images, labels, trainer="loop", **scale):
    """Weights and losses of a few steps of SGD, which are as large as the gradients."""
    before = student.get_weights()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(64).repeat()
    with train.Monitor("test", STEPS, log_steps=1) as monitor:
        train.train(
            train.Distilled(student, scale=ScaleConfig(**scale)),
            data,
            STEPS,
            keras.optimizers.SGD(1e-2),
            monitor,
            trainer=trainer,
        )
    found = student.get_weights()
    student.set_weights(before)
    return found, [point.loss for point in monitor.points]


@pytest.fixture
def calibrated(tiny_options, tiny_teacher, images):
    student = models.build("mobilenet_v1_react_nano", **{**tiny_options, "blocks": ((2, 2),)})
    teacher = models.build(
        "mobilenet_v1_react_nano", **{**tiny_options, "blocks": ((2, 2),)}, binary=False
    )
    train.calibrate(student, teacher, [images])
    return student


@pytest.mark.parametrize(
    "scale",
    [
        {"accumulate": 2},
        pytest.param({"precision": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    ],
)
def test_fit_and_loop_are_the_same(calibrated, images, labels, scale):
    fit, loop = (trained(calibrated, images, labels, t, **scale) for t in ("fit", "loop"))
    assert fit[1] == loop[1]
    for a, b in zip(fit[0], loop[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_parts_add_up_to_the_step(images, labels):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(16, "tanh", kernel_regularizer="l2")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(4)(x))
    whole, parts = (trained(model, images, labels, accumulate=a) for a in (1, 4))
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-5)
    for a, b in zip(parts[0], whole[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # float32 sums in another order


def test_xla_computes_the_same_step(calibrated, images, labels):
    plain, compiled = (
        trained(calibrated, images, labels, jit_compile=jit) for jit in (False, True)
    )
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-3)  # a sign at its threshold may flip
    differ = [not np.array_equal(a, b) for a, b in zip(plain[0], compiled[0], strict=True)]
    assert any(differ)  # else XLA was not asked


def test_bfloat16_is_of_the_steps_only(calibrated, images, labels):
    exact = trained(calibrated, images, labels)
    rough = trained(calibrated, images, labels, precision="bfloat16")
    # Its last bit is 4e-3, a dozen layers deep.
    np.testing.assert_allclose(rough[1], exact[1], rtol=0.05)
    assert rough[1] != exact[1]
    assert all(weight.dtype in ("float32", "bool") for weight in rough[0])
    assert {layer.compute_dtype for layer in calibrated.layers} == {"float32"}
    for a, b in zip(rough[0], calibrated.get_weights(), strict=True):
        assert np.all(np.isfinite(a))
        assert a.shape == b.shape


def test_the_twin_has_the_variables_of_the_model(calibrated, images):
    twin = bfloat16_twin(calibrated)
    assert twin.output.dtype == tf.float32
    inner = [layer for layer in twin.layers if isinstance(layer, BitatConv2D)]
    assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
    latent = {id(c.kernel.latent_variable) for c in calibrated.layers if hasattr(c, "transform")}
    assert {id(layer.kernel.latent_variable) for layer in inner} == latent  # not quantized twice
    before = twin(images[:8]).numpy()
    assert len(twin.weights) == len(calibrated.weights)
    for weight in calibrated.trainable_weights:
        weight.assign(0.5 * weight)
    after = twin(images[:8]).numpy()
    assert not np.array_equal(before, after)
    for a, b in zip(twin.get_weights(), calibrated.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(after, calibrated(images[:8]), atol=0.2 * np.abs(after).max())
    with pytest.raises(ValueError, match="half precision loses"):
        train.calibrate(twin, twin, [images])


def test_xla_is_refused_where_replicas_exchange_statistics():
    with pytest.raises(ValueError, match=r"scale\.jit_compile.*strategy=mirrored"):
        ScaleConfig(strategy="mirrored", jit_compile=True)
    with pytest.raises(ValueError, match=r"scale\.accumulate"):
        ScaleConfig(accumulate=0)
