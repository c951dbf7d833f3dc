import flatbuffers
import larq_compute_engine as lce
import numpy as np
import pytest

from bitat_tf import runtime
from bitat_tf._keras import keras, tf
from bitat_tf.convert import audit, binary_kernels, kernels, strip
from bitat_tf.quantizers import lq

layers = keras.layers


def converted(model, folder):
    """LCE's own conversion, with nothing checked."""
    tf.saved_model.save(model, str(folder))
    return lce.convert_saved_model(str(folder))


def chain(arguments):
    """Binary 3x3 convolutions, one behind the other, with these arguments each."""
    x = inputs = keras.Input((6, 6, 40))
    for index, changes in enumerate(arguments):
        defaults = {
            "input_quantizer": "ste_sign",
            "kernel_quantizer": "ste_sign",
            "kernel_constraint": "weight_clip",
            "pad_values": 1.0,
            "padding": "same",
        }
        convolution = lq.layers.QuantConv2D(40, 3, name=f"conv_{index}", **{**defaults, **changes})
        x = layers.BatchNormalization(name=f"norm_{index}")(convolution(x))
        gamma = np.linspace(-2, 2, 40)
        x.node.layer.gamma.assign(gamma)
    return keras.Model(inputs, x)


class ZeroChannel(keras.layers.Layer):
    """A scaled sign whose first output channel is zero: the case LCE leaves float."""

    def call(self, kernel):
        scale = tf.concat([tf.zeros(1), tf.ones(kernel.shape[-1] - 1)], axis=0)
        return lq.quantizers.ste_sign(kernel) * scale


def test_all_intended_convolutions_are_found(student, flatbuffer):
    intended = binary_kernels(student)
    assert len(intended) == 5
    assert audit(flatbuffer, intended).missing == ()


def test_kernels_of_student_and_stripped_model_are_the_same(student):
    plain = binary_kernels(strip(student))
    for name, kernel in binary_kernels(student).items():
        assert set(np.unique(kernel)) == {-1.0, 1.0}
        np.testing.assert_array_equal(kernel, plain[name])


def test_one_changed_sign_is_a_missing_kernel(student, flatbuffer):
    intended = binary_kernels(student)
    intended["block2_conv3x3"] = intended["block2_conv3x3"].copy()
    intended["block2_conv3x3"][1, 2, 23, 7] *= -1
    (missing,) = audit(flatbuffer, intended).missing
    assert missing == "block2_conv3x3 (found: no operator with its kernel)"


@pytest.mark.parametrize(
    "changes",
    [{"pad_values": -1.0}, {"input_quantizer": None}, {"kernel_quantizer": ZeroChannel()}],
    ids=["minus-one padding", "real input", "zero channel"],
)
def test_only_the_convolution_left_float_is_named(changes, tmp_path):
    model = chain([{}, changes, {}])
    report = audit(converted(model, tmp_path), binary_kernels(model))
    assert report.binary_convolutions == 2
    (missing,) = report.missing
    assert missing.startswith("conv_1 (found: CONV_2D")
    assert "norm_1" in missing  # the layer that the converter fused last


def test_bitpacked_outputs_behind_negative_factors_are_found(tmp_path):
    # The converter turns the kernel's signs round in the channels of a negative gamma.
    model = chain([{}, {}, {}])
    report = audit(converted(model, tmp_path), binary_kernels(model))
    assert [op.output_type for op in report.ops if op.binary] == ["INT32", "INT32", "FLOAT32"]
    assert report.missing == ()


def test_equal_kernels_are_counted_each(tmp_path):
    model = chain([{}, {"pad_values": -1.0}])
    model.get_layer("conv_1").set_weights(model.get_layer("conv_0").get_weights())
    report = audit(converted(model, tmp_path), binary_kernels(model))
    (missing,) = report.missing
    assert missing.startswith("conv_1 (found: CONV_2D")


def test_operators_of_the_small_student(flatbuffer):
    report = audit(flatbuffer)
    assert report.input_shape == (1, 16, 16, 3)
    assert report.output_shape == (1, 4)
    assert report.input_type == report.output_type == "FLOAT32"
    assert report.size_bytes == len(flatbuffer)
    assert [op.index for op in report.ops] == list(range(len(report.ops)))
    kinds = {op.type for op in report.ops}
    assert {"LceQuantize", "LceBconv2d", "CONV_2D", "PRELU", "FULLY_CONNECTED"} <= kinds
    stem, dense = report.ops[0], report.ops[-1]
    assert (stem.type, stem.kernel_shape) == ("CONV_2D", (12, 3, 3, 3))
    assert (dense.type, dense.kernel_shape) == ("FULLY_CONNECTED", (4, 1, 1, 24))


def test_multiply_accumulates_are_those_of_the_architecture(flatbuffer):
    report = audit(flatbuffer)
    # stem 16x16, then 8x8: 3x3 on 12, twice 1x1 on 12, 3x3 on 24, 1x1 on 24; dense 24 -> 4
    assert report.float_macs == 16 * 16 * 9 * 3 * 12 + 24 * 4
    assert report.binary_macs == 64 * (9 * 12 * 12 + 2 * 12 * 12 + 9 * 24 * 24 + 24 * 24)
    shapes = [op.kernel_shape for op in report.ops if op.binary]
    assert shapes[0] == (12, 3, 3, 12)  # true channels, though 32 are packed


def test_channels_that_do_not_fill_a_word(tmp_path):
    report = audit(converted(chain([{}]), tmp_path))
    (shape,) = (op.kernel_shape for op in report.ops if op.binary)
    assert shape == (40, 3, 3, 40)


def test_depthwise_convolution_is_counted(tmp_path):
    inputs = keras.Input((8, 8, 6))
    model = keras.Model(inputs, layers.DepthwiseConv2D(3, padding="same")(inputs))
    report = audit(converted(model, tmp_path))
    assert report.float_convolutions == 1
    assert report.float_macs == 8 * 8 * 9 * 6


def test_a_constant_counts_once(tmp_path):
    inputs = keras.Input((8, 8, 6))
    layer = layers.Conv2D(6, 3, padding="same", use_bias=False)
    report = audit(converted(keras.Model(inputs, layer(layer(inputs))), tmp_path))
    weights = 3 * 3 * 6 * 6 * 4
    sizes = [op.size_bytes for op in report.ops if op.type == "CONV_2D"]
    assert sizes[0] >= weights
    assert sizes[1] < weights


def test_constants_make_up_no_more_than_the_file(flatbuffer, float_flatbuffer):
    for content in (flatbuffer, float_flatbuffer):
        report = audit(content)
        assert 0 < sum(op.size_bytes for op in report.ops) < report.size_bytes


def test_packed_kernel_is_recognised_by_its_bits():
    kernel = np.where(np.random.default_rng(0).random((1, 1, 33, 2)) < 0.5, -1.0, 1.0)
    words = np.zeros((2, 1, 1, 2), np.uint32)
    for channel in range(33):
        for output in range(2):
            bit = np.uint32(kernel[0, 0, channel, output] < 0) << np.uint32(channel % 32)
            words[output, 0, 0, channel // 32] |= bit
    filters = words.view(np.int32)
    assert kernels.find_packed(filters, kernel) == (0,)
    assert kernels.find_packed(filters, -kernel) == ()
    turned = kernel * [1, -1]
    assert kernels.find_packed(filters, turned) == ()
    assert kernels.find_packed(filters, turned, writes_bits=True) == (0,)
    turned[0, 0, 32, 0] *= -1
    assert kernels.find_packed(filters, turned, writes_bits=True) == ()


def test_packed_kernel_is_found_within_a_merged_one():
    kernel = np.where(np.random.default_rng(0).random((1, 1, 32, 6)) < 0.5, -1.0, 1.0)
    words = np.packbits(np.moveaxis(kernel < 0, -1, 0), axis=-1, bitorder="little")
    filters = np.ascontiguousarray(words).view(np.int32)
    assert kernels.find_packed(filters, kernel[..., 2:4]) == (2,)
    assert kernels.find_packed(filters, kernel[..., [2, 4]]) == ()
    assert kernels.find_packed(filters[:3], kernel[..., 2:4]) == ()
    assert kernels.find_packed(filters[[0, 1, 0, 1]], kernel[..., :2]) == (0, 2)


def test_lost_kernels_are_named():
    a, b = np.where(np.random.default_rng(1).random((2, 3, 3, 8, 4)) < 0.5, -1.0, 1.0)
    merged = np.concatenate([0.5 * a, b * [1, -1, 1, -1]], axis=-1)
    assert kernels.lost_kernels({"a": a, "b": b}, {"a_and_b": merged}) == ()
    assert kernels.lost_kernels({"a": a, "b": b}, {"a": a}) == ("b",)
    assert kernels.lost_kernels({"a": a, "twice": a}, {"a": a}) == ("twice",)
    changed = b.copy()
    changed[0, 0, 0, 0] *= -1
    assert kernels.lost_kernels({"a": a, "b": b}, {"a": a, "b": changed}) == ("b",)


def test_weights_of_the_wrong_rank_are_corrupt(flatbuffer):
    model = runtime.read(flatbuffer)
    graph = model.subgraphs[0]
    (dense,) = (o for o in graph.operators if runtime.operator_name(model, o) == "FULLY_CONNECTED")
    weights = graph.tensors[dense.inputs[1]]
    weights.shape = [int(np.prod(weights.shape))]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ValueError, match=r"corrupt: FULLY_CONNECTED .* weights of shape \(96,\)"):
        audit(bytes(builder.Output()))


def test_foreign_file_is_refused():
    with pytest.raises(ValueError, match="Not a TFLite flatbuffer"):
        audit(b"PK\x03\x04 no flatbuffer at all")
