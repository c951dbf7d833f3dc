"""Whole networks: the fold computes the same, in the operators that were promised."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf import models
from bitat_tf._keras import keras
from bitat_tf.convert import audit, binary_kernels, export, fold, fold_with_report, strip
from bitat_tf.convert.fold import REWRITES
from bitat_tf.convert.kernels import lost_kernels
from bitat_tf.layers import BitatConv2D, RPReLU, RSign

layers = keras.layers


def shortcut_network(nets, seed, *, nonlinear, doubling, stride, before_norm, quantizer, pool):
    """Two residual blocks of our own layers or Larq's, in one of many shapes."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    for index in range(2):
        step = stride if index else 1
        shortcut = pool(step, padding="same")(x) if step > 1 else x
        y = RSign()(x)
        branches = []
        for _ in range(2 if doubling and index else 1):
            z = nets.binary_convolution(8, strides=step, kernel_quantizer=quantizer)(y)
            if before_norm:
                z = layers.ReLU()(z)
            z = layers.BatchNormalization(scale=index == 0)(z)
            branches.append(layers.Add()([z, shortcut]))
        x = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
        if nonlinear:
            x = RPReLU()(x)
    outputs = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    return nets.untamed(keras.Model(image, outputs), seed)


NETWORKS = st.fixed_dictionaries(
    {
        "nonlinear": st.booleans(),
        "doubling": st.booleans(),
        "stride": st.sampled_from([1, 2]),
        "before_norm": st.booleans(),
        "quantizer": st.sampled_from(["ste_sign", "magnitude_aware_sign"]),
        "pool": st.sampled_from([layers.AveragePooling2D, layers.MaxPooling2D]),
    }
)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(shape=NETWORKS, seed=st.integers(0, 2**16))
def test_random_networks_compute_the_same(nets, small_images, shape, seed):
    plain = strip(shortcut_network(nets, seed, **shape))
    folded = fold(plain)
    nets.check_equal(plain, folded, small_images)
    if not shape["nonlinear"]:
        assert nets.additions(folded) == []  # every threshold of such a network folds
    else:  # one for each but the first, whose threshold the stem takes
        assert len(nets.additions(folded)) == 1
    assert lost_kernels(binary_kernels(plain), binary_kernels(folded)) == ()


def test_folding_twice_changes_nothing_more(nets, student):
    folded = fold(strip(student))
    again, steps = fold_with_report(folded)
    assert [step.changed for step in steps] == [()] * len(REWRITES)
    for one, other in zip(folded.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_backbone_computes_the_same(nets, student, images):
    plain = strip(student)
    before = [weight.copy() for weight in plain.get_weights()]
    folded, steps = fold_with_report(plain)
    nets.check_equal(plain, folded, images)
    changed = {step.rewrite: step.changed for step in steps}
    # One for each sign: the first, too, stands behind a kink, that of the stem's PReLU.
    assert len(nets.additions(folded)) == 4
    assert changed["merge_branches"] == ("block1_conv1x1a_and_block1_conv1x1b",)
    for weight, copy in zip(plain.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, copy)


def reactnet(nets, width):
    model = models.build("mobilenet_v1_react", classes=10, width=width, input_size=32)
    return strip(nets.untamed(model, 0))


def check_operators(report, least, doublings):
    counts = Counter(op.type for op in report.ops)
    # Each doubling of the channels saves a convolution and a sum more than is asked for.
    assert sum(counts.values()) == least - 2 * doublings
    assert counts["LceBconv2d"] == counts["LceQuantize"] == 26
    assert counts["ADD"] == 26 + 25  # shortcuts, and thresholds but for the first
    assert "AVERAGE_POOL_2D" not in counts


def test_operators_of_reactnet(nets):
    check_operators(audit(export(reactnet(nets, 0.25))), 145, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "unfolded", "least", "doublings"), [(0.25, 198, 145, 3), (0.5, 201, 148, 4)]
)
def test_operators_of_reactnet_before_and_after(nets, width, unfolded, least, doublings):
    plain = reactnet(nets, width)
    before, after = audit(export(plain, fold=False)), audit(export(plain))
    assert len(before.ops) == unfolded
    check_operators(after, least, doublings)
    assert after.size_bytes < before.size_bytes


def quicknet_block(nets, x, index):
    """QuickNet's: ReLU before BatchNorm, and nothing on the shortcut."""
    y = layers.BatchNormalization(name=f"norm_{index}")(
        layers.ReLU()(nets.binary_convolution(8, name=f"conv_{index}")(RSign()(x)))
    )
    return layers.Add()([x, y])


def test_no_threshold_is_left_where_nothing_stands_on_the_shortcut(nets, small_images):
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(image))
    for index in range(3):
        x = quicknet_block(nets, x, index)
    x = layers.ReLU()(x)  # a transition: its kink wants the constant back
    x = layers.Conv2D(8, 1)(layers.MaxPooling2D(2)(x))
    x = layers.BatchNormalization()(x)
    for index in range(3, 6):
        x = quicknet_block(nets, x, index)
    outputs = layers.Dense(5)(layers.Flatten()(x))
    plain = strip(nets.untamed(keras.Model(image, outputs), 3))
    folded = fold(plain)
    nets.check_equal(plain, folded, small_images)
    assert nets.additions(folded) == []
    kinds = Counter(op.type for op in audit(export(plain)).ops)
    assert kinds["ADD"] == 6
    assert "RELU" not in kinds  # all fused, one with a sum


def test_quicknet_keeps_no_addition_but_its_shortcuts(nets):
    """The registered backbone: all four sections, their transitions, and its classifier."""
    model = models.build("quicknet", classes=10, width=0.125, input_size=16)
    plain = strip(nets.untamed(model, 6))
    shortcuts = sum(isinstance(layer, layers.Add) for layer in plain.layers)
    signs = sum(isinstance(layer, RSign) for layer in model.layers)
    assert shortcuts == signs == 16
    assert len(nets.additions(plain)) == signs  # each sign has its threshold
    folded = fold(plain)
    images = np.random.default_rng(6).normal(size=(8, 16, 16, 3)).astype(np.float32)
    nets.check_equal(plain, folded, images)
    assert nets.additions(folded) == []
    counts = Counter(op.type for op in audit(export(plain)).ops)
    assert counts["ADD"] == shortcuts
    assert counts["LceBconv2d"] == counts["LceQuantize"] == 16
    assert not {"SUB", "MUL", "GREATER_EQUAL"} & counts.keys()  # nor a threshold in other dress


def test_network_of_somebody_who_has_only_larq_folds_too(nets, small_images):
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(image))
    arguments = {"input_quantizer": "approx_sign", "kernel_quantizer": "magnitude_aware_sign"}
    for index in range(2):
        threshold = np.linspace(-0.5, 0.5, 8, dtype=np.float32)
        y = nets.binary_convolution(8, name=f"conv_{index}", **arguments)(x + threshold)
        x = layers.Add()([layers.BatchNormalization()(y), x])
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = nets.untamed(keras.Model(image, outputs), 4)
    folded, steps = fold_with_report(model)
    nets.check_equal(model, folded, small_images)
    assert nets.additions(folded) == []
    changed = {step.rewrite: step.changed for step in steps}
    assert changed["move_scales"] == ("conv_0", "conv_1")
    assert len(changed["drop_identities"]) == 1
    for kernel in binary_kernels(folded).values():
        assert set(np.unique(kernel)) == {-1.0, 1.0}


def test_folded_model_saves_and_loads(nets, student, images, tmp_path):
    folded = fold(strip(student))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras", compile=False)
    np.testing.assert_array_equal(
        loaded(images, training=False).numpy(), folded(images, training=False).numpy()
    )
    modules = {type(layer).__module__.split(".")[0] for layer in folded.layers}
    assert modules == {"tf_keras", "larq"}


def test_student_is_refused_by_nothing_but_folds_less(nets, small_images):
    """Layers of this package are opaque to the fold: it is made for what `strip` returns."""
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign(name="sign")(image)))
    model = nets.untamed(keras.Model(image, layers.Flatten()(x)), 0)
    np.testing.assert_array_equal(
        fold(model)(small_images, training=False), model(small_images, training=False)
    )


def test_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional or Sequential"):
        fold(Subclassed())
