"""The student is the float network until it is binary; the report says what became of it."""

import numpy as np
import pytest
from networks import distance, examples, residual, switched, trained, unusual, vgg

import bitat_tf as bitat
from bitat_tf import records
from bitat_tf._keras import keras, tf
from bitat_tf.binarize import BinarizeReport, Reason, float_twin, without
from bitat_tf.graph import binary_units
from bitat_tf.layers import BitatConv2D, RSign, Shortcut

# float32 sums in another order
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def made(network):
    """The student, its report, and the network as it was before."""
    before = [w.copy() for w in network.get_weights()]
    config = network.to_json()
    student, report = bitat.binarize(network, example_input=examples(network))
    after = network.get_weights()
    assert network.to_json() == config
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    return student, report


def test_with_nothing_active_the_student_computes_what_the_model_does(network, made):
    student, _ = made
    inputs = examples(network)
    assert distance(switched(student, False), network, inputs) < ROUNDING
    assert distance(switched(student, True), network, inputs) > 0.01
    assert distance(float_twin(student, network), network, inputs) < ROUNDING


def test_structure_and_names_of_inputs_and_outputs_stay(network, made):
    student, _ = made
    assert student.input_names == network.input_names
    assert tf.nest.map_structure(lambda t: tuple(t.shape), student.output) == (
        tf.nest.map_structure(lambda t: tuple(t.shape), network.output)
    )


def test_no_weight_is_shared_with_the_model(network, made):
    student, _ = made
    assert not {id(w) for w in student.weights} & {id(w) for w in network.weights}


def test_every_layer_is_in_the_report_and_float_kernels_have_a_reason(made):
    student, report = made
    binary = {layer.name for layer in student.layers if isinstance(layer, BitatConv2D)}
    assert set(report.binary_layers) == binary
    assert binary
    for layer in report.layers:
        assert layer.binary == (layer.name in binary)
        assert bool(layer.action) >= layer.binary
        assert bool(layer.reason) == (bool(layer.operators) and not layer.binary)
    assert records.from_json(BinarizeReport, records.to_json(report)) == report
    with pytest.raises(ValueError, match="`name` must be one of"):
        report.layer("nowhere")


def test_all_of_the_student_is_trainable():
    model = trained(vgg())
    model.trainable = False
    student, _ = bitat.binarize(model)
    assert all(layer.trainable for layer in student.layers if layer.weights)
    assert student.get_layer("conv1").kernel.latent_variable.trainable


def test_reasons_of_an_unusual_model():
    _, report = bitat.binarize(trained(unusual()))
    reasons = {
        "stem_conv": "first layer",
        "shared": "shared by 2 calls",
        "block_conv_depthwise": "depthwise",
        "grouped": "2 groups",
        "gate_in": "squeeze-and-excitation",
        "gate_out": "squeeze-and-excitation",
        "scale": "custom layer",
        "classes": "last layer",
        "angle": "last layer",
    }
    for name, reason in reasons.items():
        assert reason in report.layer(name).reason
    assert set(report.binary_layers) == {"block_conv_pointwise", "side", "p", "q", "hidden"}
    assert "split off" in report.layer("block_conv_pointwise").action
    assert [op.type for op in report.layer("scale").operators] == ["CONV_2D"]
    assert 1 <= len(report.suggestions) <= 3


def test_convolutions_that_read_one_tensor_are_one_unit():
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    # the padding in front of one of them goes into it: they read the same then
    y = layers.Conv2D(8, 3, name="a")(layers.ZeroPadding2D(name="pad")(x))
    z = layers.Conv2D(8, 1, name="b")(x)
    last = layers.Conv2D(2, 1, name="last")(layers.Concatenate(name="join")([y, z]))
    model = trained(keras.Model(image, last))
    student, _ = bitat.binarize(model)
    (unit,) = binary_units(student)
    assert {c.name for c in unit.convolutions} == {"a", "b"}
    assert distance(switched(student, False), model, examples(model)) < ROUNDING


def test_padding_moves_behind_the_sign_only_where_it_is_same_padding():
    student, report = bitat.binarize(trained(residual()))
    names = {layer.name for layer in student.layers}
    assert "one_pad" not in names
    assert "moved behind" in report.layer("one_pad").action
    assert student.get_layer("one_a").padding == "same"
    # "same" at stride 2 would pad (0, 1) here, the model pads (1, 1)
    assert "two_pad" in names
    assert student.get_layer("two_a").padding == "valid"
    kept, _ = bitat.binarize(trained(residual()), rules=without("one_padding"))
    assert kept.get_layer("one_a").padding == "valid"


def test_shortcuts_go_where_shapes_allow_and_the_model_has_none():
    student, report = bitat.binarize(trained(residual()))
    around = {layer.name for layer in student.layers if isinstance(layer, Shortcut)}
    assert around == {"one_a_shortcut"}  # the others end in the model's own sum, or widen
    assert "shortcut" in report.layer("one_a").action
    plain, report = bitat.binarize(trained(residual()), rules=without("shortcut"))
    assert not any(isinstance(layer, Shortcut) for layer in plain.layers)
    assert "shortcut" not in report.layer("one_a").action


def test_a_strided_convolution_gets_a_pooled_shortcut():
    image = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="strided")(x)
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="last")(x))
    student, report = bitat.binarize(model)
    assert "average-pooled shortcut" in report.layer("strided").action
    assert student.get_layer("strided_shortcut").output_shape == (None, 5, 5, 8)


@pytest.mark.parametrize(
    ("keep", "binary"),
    [
        ((), ("conv0", "conv1", "conv2", "hidden", "head")),
        (("first", "last"), ("conv1", "conv2", "hidden")),
        (("conv*",), ("hidden", "head")),
        ("hidden", ("conv0", "conv1", "conv2", "head")),
    ],
)
def test_keep_float(keep, binary):
    _, report = bitat.binarize(trained(vgg()), keep_float=keep)
    assert report.binary_layers == binary


def test_without_the_batchnorm_rule_only_what_has_one_is_binary():
    _, report = bitat.binarize(trained(residual()), rules=without("batchnorm"))
    assert "two_project" not in report.binary_layers
    assert "no BatchNormalization" in report.layer("two_project").reason
    assert "two_a" in report.binary_layers


def test_a_rule_of_the_user_s_own_is_asked_in_its_place():
    class Wide:
        name = "wide"

        def apply(self, plan):
            for decision in plan.binary:
                if decision.call.output_shapes[0][-1] > 32:
                    decision.keep_float(Reason("too wide"))

    rules = (*without("shortcut"), Wide())
    _, report = bitat.binarize(trained(vgg()), rules=rules)
    assert report.layer("conv2").reason == "too wide"
    assert report.binary_layers == ("conv1", "hidden")
    with pytest.raises(ValueError, match="There is no rule 'nothing'"):
        without("nothing")


def test_quantizers_are_those_asked_for():
    student, _ = bitat.binarize(
        vgg(), activation_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign"
    )
    assert type(student.get_layer("conv1_sign").quantizer).__name__ == "SteSign"
    kernel = student.get_layer("conv1").kernel_quantizer
    assert type(kernel).__name__ == "MagnitudeAwareSign"


def test_several_thresholds_show_a_convolution_its_channels_as_often():
    model = trained(vgg())
    student, report = bitat.binarize(model, thresholds=2)
    assert distance(switched(student, False), model, examples(model)) < ROUNDING
    assert report.layer("conv1").operators[0].kernel_shape == (32, 3, 3, 64)


@pytest.mark.parametrize("form", ["student.keras", "saved_model"])
def test_students_load_without_custom_objects(network, made, tmp_path, form):
    student, _ = made
    path = tmp_path / form
    student.compile()  # an uncompiled model warns of metrics that it does not have
    student.save(path)
    loaded = keras.models.load_model(path, compile=False)
    inputs = examples(network)
    assert distance(loaded, student, inputs) < ROUNDING
    assert [u.name for u in binary_units(loaded)] == [u.name for u in binary_units(student)]
    for unit in binary_units(loaded):
        assert unit.active
    assert isinstance(loaded.get_layer(binary_units(loaded)[0].name), RSign)


def test_sizes_left_open_are_taken_from_the_example():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = keras.layers.Conv2D(8, 3, padding="same", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = trained(keras.Model(image, keras.layers.Dense(2, name="last")(x)))
    with pytest.raises(ValueError, match=r"unknown size.*Give `example_input`"):
        bitat.binarize(model)
    example = np.random.default_rng(0).normal(size=(2, 12, 10, 3)).astype("float32")
    student, _ = bitat.binarize(model, example_input=example)
    assert student.input_shape == (None, 12, 10, 3)
    assert distance(switched(student, False), model, example) < ROUNDING
    with pytest.raises(ValueError, match="one array per input"):
        bitat.binarize(model, example_input=example[..., :1])
