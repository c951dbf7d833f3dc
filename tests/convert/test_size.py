"""What the bytes of a flatbuffer are, and sentences on those that nobody expects."""

import dataclasses

import numpy as np
import pytest

from bitat_tf import convert, runtime
from bitat_tf._keras import keras
from bitat_tf.convert.lce_operators import CUSTOM, NEWEST_VERSION
from bitat_tf.counts import count
from bitat_tf.metadata import Metadata
from bitat_tf.quantizers import lq
from bitat_tf.runtime.packing import pack
from bitat_tf.runtime.schema import schema

PARTS = (
    "binary_kernels",
    "float_kernels",
    "int8_kernels",
    "constants",
    "metadata",
    "unused",
    "graph",
)


def parts(size):
    return {name: getattr(size, name) for name in PARTS}


def changed(flatbuffer, change):
    model = runtime.read(flatbuffer)
    change(model)
    return pack(model)


def dense_net(channels):
    """Two binary convolutions and no more, of so many channels."""
    x = inputs = keras.Input((4, 4, channels))
    for index in range(2):
        x = lq.layers.QuantConv2D(
            channels,
            3,
            padding="same",
            pad_values=1.0,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            name=f"conv_{index}",
        )(x)
    return keras.Model(inputs, x)


def test_the_parts_add_up_to_the_file(student, images, flatbuffer, float_flatbuffer):
    int8 = convert.export(student, ends="int8", calibration_images=images)
    for content in (flatbuffer, int8, float_flatbuffer, convert.embed(int8, Metadata("1"))):
        size = convert.audit(content).size
        assert sum(parts(size).values()) == len(content)
        assert min(parts(size).values()) >= 0
    assert convert.audit(flatbuffer).size.int8_kernels == 0
    assert convert.audit(int8).size.float_kernels < convert.audit(flatbuffer).size.float_kernels


def test_kernels_take_what_their_bits_and_words_take(flatbuffer):
    size = convert.audit(flatbuffer).size
    # 12 and 24 channels fill a word of 32 each
    words = 9 * 12 + 12 * 2 + 9 * 24 + 24
    assert size.binary_kernels == 4 * words
    # stem, the pool that the fold writes as a convolution, classifier
    assert size.float_kernels == 4 * (9 * 3 * 12 + 4 * 12 + 24 * 4)


def test_small_networks_are_explained_by_their_graph(student):
    report = convert.convert_model(student).audit
    assert report.size.predicted == pytest.approx(
        count(student).binary_parameters / 8
        + 4 * (count(student).parameters - count(student).binary_parameters),
        abs=1,
    )
    first = report.size.notes[0]
    assert "the graph itself" in first
    assert first.startswith(f"+{report.size.graph / 1024:.1f} KiB")


def test_words_that_are_not_full_are_named():
    report = convert.convert_model(dense_net(33)).audit
    assert any("filled up to words of 32" in note for note in report.size.notes)


def test_a_network_of_full_words_needs_no_note():
    report = convert.convert_model(dense_net(256)).audit
    assert report.size.binary_kernels == 2 * 256 * 9 * 256 / 8
    assert report.size.notes == ()


def test_int8_ends_are_named_as_what_saves(images):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(256, 7, strides=4)(inputs)
    x = lq.quantizers.SteSign()(x)
    x = lq.layers.QuantConv2D(32, 1, kernel_quantizer="ste_sign")(x)
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    made = convert.convert_model(model, ends="int8", calibration_images=images)
    (saved,) = (note for note in made.audit.size.notes if "int8" in note)
    assert saved.startswith("-")


def test_metadata_and_unused_and_double_buffers_are_named(flatbuffer):
    bare = convert.audit(flatbuffer).size
    known = Metadata("1", labels=tuple(f"label number {index}" for index in range(900)))
    said = convert.audit(convert.embed(flatbuffer, known)).size
    assert said.metadata > 900 * 15
    assert any("metadata" in note for note in said.notes)

    def add_unused(model):
        buffer = schema.BufferT()
        buffer.data = np.arange(30_000, dtype=np.uint8)
        model.buffers.append(buffer)

    unused = convert.audit(changed(flatbuffer, add_unused)).size
    assert unused.unused == 30_000
    assert any("no operator reads" in note for note in unused.notes)
    assert dataclasses.replace(unused, unused=0, notes=(), graph=0) == dataclasses.replace(
        bare, notes=(), graph=0
    )

    def copy_kernel(model):
        tensors = model.subgraphs[0].tensors
        operators = model.subgraphs[0].operators
        prelus = [o for o in operators if runtime.operator_name(model, o) == "PRELU"]
        first, second = (tensors[operator.inputs[1]] for operator in prelus[:2])
        model.buffers[second.buffer].data = model.buffers[first.buffer].data

    twice = convert.audit(changed(flatbuffer, copy_kernel)).size
    assert twice.duplicates == bare.duplicates + 12 * 4


def test_weights_left_float_are_named_with_what_they_cost():
    """As LCE's own converter would leave them: nothing of the kernel is binary."""
    model = dense_net(64)
    floats = keras.models.clone_model(model)
    inputs = x = keras.Input((4, 4, 64))
    for layer in floats.layers[1:]:
        x = keras.layers.Conv2D(64, 3, padding=layer.padding)(x)
    content = convert.export_float(keras.Model(inputs, x))
    report = convert.audit(content, counts=count(model))
    assert "meant to be binary that are stored as floats" in report.size.notes[0]


def test_operators_that_a_phone_lacks_are_warned_of(flatbuffer):
    assert convert.audit(flatbuffer).warnings == ()

    def newer(model):
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.PRELU:
                code.version = 2

    (warning,) = convert.audit(changed(flatbuffer, newer)).warnings
    assert "PRELU is of version 2" in warning

    def custom(name):
        def change(model):
            for code in model.operatorCodes:
                if code.customCode == b"LceQuantize":
                    code.customCode = name

        return change

    (warning,) = convert.audit(changed(flatbuffer, custom(b"FlexErf"))).warnings
    assert "Flex delegate" in warning
    (warning,) = convert.audit(changed(flatbuffer, custom(b"MyOwn"))).warnings
    assert "MyOwn is a custom operator" in warning


def _declared(builtin, version):
    """A flatbuffer that declares an operator and has none."""
    tensor = schema.TensorT()
    tensor.shape, tensor.name = [1], b"x"
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.version = version
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT()]
    return pack(model)


def _known_to_lce(builtin, version):
    from larq_compute_engine.tflite.python.interpreter_wrapper_lite import LiteInterpreter

    try:
        LiteInterpreter(_declared(builtin, version), 1, False, False, False)
    except RuntimeError:
        return False
    return True


def test_the_table_of_versions_is_lce_s_own(capfd):
    builtins = {k: v for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    for name, number in builtins.items():
        if name == "CUSTOM":
            continue
        newest = NEWEST_VERSION.get(name, 0)
        assert not _known_to_lce(number, newest + 1), name
        if newest:
            assert _known_to_lce(number, newest), name
    assert {"LceBconv2d", "LceQuantize", "LceDequantize", "LceBMaxPool2d"} <= CUSTOM
    capfd.readouterr()
