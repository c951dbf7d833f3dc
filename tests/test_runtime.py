import os
import random

import flatbuffers
import numpy as np
import pytest

from bitat_tf import runtime
from bitat_tf._keras import keras
from bitat_tf.convert import export, export_float
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.quiet import held_stderr
from bitat_tf.runtime import first_load

layers = keras.layers


def _binary_model():
    inputs = keras.Input((8, 8, 4))
    x = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign()(inputs)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def _float_model():
    inputs = keras.Input((8, 8, 4))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.fixture(scope="module", params=["binary", "float"])
def case(request):
    """A model and its flatbuffer, for either interpreter."""
    keras.utils.set_random_seed(0)
    if request.param == "binary":
        model = _binary_model()
        return model, export(model)
    model = _float_model()
    return model, export_float(model)


@pytest.fixture(scope="module")
def flatbuffer():
    keras.utils.set_random_seed(0)
    return export(_binary_model())


def some_images(count):
    return np.random.default_rng(0).normal(size=(count, 8, 8, 4)).astype(np.float32)


def test_whole_flatbuffers_pass(case):
    _, content = case
    runtime.verify(content)
    runtime.probe(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "Not a TFLite flatbuffer"),
        (b"abc", "Not a TFLite flatbuffer"),
        (bytes(4) + b"TFL3" + bytes(100), "truncated or corrupt"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(100), "truncated or corrupt"),
        ("model.tflite", "`flatbuffer` must be bytes. Received: str"),
    ],
)
def test_foreign_bytes_are_refused_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        runtime.verify(content)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused(case):
    _, content = case
    for size in random.Random(0).sample(range(1, len(content)), 60):
        with pytest.raises(ValueError, match=r"truncated or corrupt|Not a TFLite"):
            runtime.verify(content[:size])


def test_missing_last_byte_is_refused(case):
    # Only where the builder padded the file's end could a byte be spared; it does not.
    _, content = case
    with pytest.raises(ValueError, match="truncated"):
        runtime.verify(content[:-1])


def test_bytes_cut_out_are_refused(case):
    _, content = case
    for start in random.Random(1).sample(range(8, len(content) - 64), 40):
        with pytest.raises(ValueError, match="corrupt"):
            runtime.verify(content[:start] + content[start + 64 :])


def test_damaged_bytes_never_crash_the_process(flatbuffer):
    rng = random.Random(2)
    images = some_images(1)
    outcomes = set()
    for _ in range(25):
        damaged = bytearray(flatbuffer)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            runtime.Runner(bytes(damaged)).predict(images)
            outcomes.add("ran")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"ran", "refused"}


def test_crash_of_the_child_is_an_error(flatbuffer, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(first_load, "_CHILD", child)
    with pytest.raises(ValueError, match=r"crashes the interpreter \(SIGSEGV\)"):
        runtime.Runner(flatbuffer)


def test_hanging_child_is_ended(flatbuffer, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(first_load, "_CHILD", child)
    monkeypatch.setattr(first_load, "_START_SECONDS", 0.0)
    with pytest.raises(ValueError, match=r"one inference in 0.5 s"):
        runtime.probe(flatbuffer, timeout_seconds=0.5)


def test_loading_has_its_own_limit_of_time(flatbuffer):
    # A real child, which the system ends while native code loads the flatbuffer.
    with pytest.raises(ValueError, match=r"one inference in 1e-06 s"):
        runtime.probe(flatbuffer, timeout_seconds=1e-6)


def test_a_shape_that_asks_for_gigabytes_is_refused(case):
    _, content = case
    model = runtime.read(content)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 10_000, 10_000, 4]  # 1.6 GB of zeros
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    damaged = bytes(builder.Output())
    runtime.verify(damaged)
    with pytest.raises(ValueError, match=r"interpreter refuses|crashes the interpreter"):
        runtime.probe(damaged)


def test_interpreter_computes_what_keras_does(case):
    model, content = case
    images = some_images(9)
    runner = runtime.Runner(content)
    assert runner.input_shape == (8, 8, 4)
    assert runner.output_shape == (3,)
    outputs = runner.predict(images)
    assert outputs.shape == (9, 3)
    np.testing.assert_allclose(outputs, model(images, training=False), atol=1e-5)


def test_results_of_earlier_calls_stay(case):
    _, content = case
    runner = runtime.Runner(content, threads=2)
    first = runner.predict(some_images(1))
    kept = first.copy()
    runner.predict(-some_images(1))
    np.testing.assert_array_equal(first, kept)


def test_runtime_names_interpreter_and_kernels(flatbuffer):
    assert "indirect BGEMM" in runtime.Runner(flatbuffer).runtime
    assert runtime.uses_lce(flatbuffer)
    ordinary = export_float(_float_model())
    assert not runtime.uses_lce(ordinary)
    assert "XNNPACK" in runtime.Runner(ordinary).runtime


def test_interpreters_print_nothing(case, capfd):
    _, content = case
    runtime.Runner(content).predict(some_images(1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (some_images(2).astype(np.float64), "float32 NumPy array. Received: float64"),
        (some_images(2).tolist(), "float32 NumPy array. Received: list"),
        (some_images(2)[:, :7], r"shape \(n, 8, 8, 4\). Received: \(2, 7, 8, 4\)"),
        (some_images(1)[0], r"shape \(n, 8, 8, 4\). Received: \(8, 8, 4\)"),
        (some_images(0), r"Received: \(0, 8, 8, 4\)"),
        (np.full((1, 8, 8, 4), np.nan, np.float32), "finite. Received: NaN"),
    ],
)
def test_wrong_images_are_refused(flatbuffer, images, message):
    with pytest.raises(ValueError, match=message):
        runtime.Runner(flatbuffer).predict(images)


def test_threads_must_be_positive(flatbuffer):
    with pytest.raises(ValueError, match="`threads` must be an integer of at least 1"):
        runtime.Runner(flatbuffer, threads=0)


def test_images_for_an_int8_network_are_rounded_to_its_range():
    keras.utils.set_random_seed(0)
    images = some_images(16)
    content = export(_binary_model_with_stem(), ends="int8", io="int8", calibration_images=images)
    runner = runtime.Runner(content)
    stored = runner.prepare(images)
    assert stored.dtype == np.int8
    assert stored.min() == -128
    assert stored.max() == 127
    np.testing.assert_array_equal(runner.prepare(images * 1000.0)[images > 0.1], 127)
    outputs = runner.predict(images)
    assert outputs.dtype == np.float32
    assert len(np.unique(outputs)) > 8


def _binary_model_with_stem():
    inputs = keras.Input((8, 8, 4))
    x = BitatConv2D(8, 3)(RSign()(layers.Conv2D(8, 3)(inputs)))
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def test_network_without_an_image_is_refused():
    inputs = keras.Input((5,))
    content = export_float(keras.Model(inputs, layers.Dense(2)(inputs)))
    with pytest.raises(ValueError, match=r"one float32 or int8 input.*image.*\(1, 5\)"):
        runtime.Runner(content)


def test_other_lines_on_standard_error_are_kept(capfd):
    with held_stderr("^noise"):
        os.write(2, b"noise of a library\na real warning\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "a real warning\n"
