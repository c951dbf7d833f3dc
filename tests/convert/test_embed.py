"""The record travels in the flatbuffer, and the flatbuffer computes what it did."""

import dataclasses

import numpy as np
import pytest

from bitat_tf import convert, runtime
from bitat_tf.convert.embed import ENTRY
from bitat_tf.metadata import AuditSummary, MeasuredShare, Metadata, Preprocessing
from bitat_tf.runtime.packing import pack
from bitat_tf.runtime.schema import schema

KNOWN = Metadata(
    bitat_version="9.9",
    labels=("Äpfel", "pears", "plums", "quinces"),
    preprocessing=Preprocessing((125.5, 123.0, 114.0), (63.0, 62.1, 67.0), (0.0, 255.0), 16, 0.875),
    dataset="fruit",
    recipe={"name": "fruit-nano", "data": {"dataset": "fruit"}, "seed": 0},
    keras_accuracy=MeasuredShare(0.75, 400),
    agreement=MeasuredShare(0.995, 1000),
    audit=AuditSummary(26, 4, 1, 1000, 2000),
)


@pytest.fixture(scope="module", params=["float ends", "int8 ends", "float", "int8"])
def any_flatbuffer(request, student, twin, images, flatbuffer, float_flatbuffer):
    """What LCE's interpreter runs, with float and int8 input, and what TensorFlow's does."""
    made = {
        "float ends": lambda: flatbuffer,
        "int8 ends": lambda: convert.export(
            student, ends="int8", io="int8", calibration_images=images
        ),
        "float": lambda: float_flatbuffer,
        "int8": lambda: convert.export_int8(twin, images),
    }
    return made[request.param]()


def test_the_record_comes_back_and_the_outputs_stay(any_flatbuffer, images):
    content = convert.embed(any_flatbuffer, KNOWN)
    assert convert.embedded(content) == KNOWN
    before, after = (runtime.Runner(f).predict(images[:8]) for f in (any_flatbuffer, content))
    np.testing.assert_array_equal(before, after)
    first, second = convert.audit(any_flatbuffer), convert.audit(content)
    assert first.ops == second.ops


def test_same_record_same_bytes_and_the_last_one_counts(flatbuffer):
    content = convert.embed(flatbuffer, KNOWN)
    assert convert.embed(flatbuffer, KNOWN) == content
    assert convert.embed(content, KNOWN) == content
    other = dataclasses.replace(KNOWN, labels=())
    assert convert.embedded(convert.embed(content, other)) == other
    assert convert.embed(convert.embed(content, other), KNOWN) == content


def test_any_reader_of_the_schema_finds_the_entry(flatbuffer):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(convert.embed(flatbuffer, KNOWN), 0))
    names = [entry.name.decode() for entry in model.metadata]
    assert names == ["min_runtime_version", ENTRY]
    text = bytes(model.buffers[model.metadata[1].buffer].data).decode()
    assert text.startswith('{"bitat_version":"9.9","labels":["Äpfel","pears"')


def test_it_costs_its_text_and_little_more(flatbuffer):
    size = len(convert.embed(flatbuffer, KNOWN)) - len(flatbuffer)
    text = 700  # of the record above, about
    assert 0 < size < text + 400


def test_the_bare_flatbuffer_carries_none(flatbuffer):
    assert convert.embedded(flatbuffer) is None


def test_buffers_stay_where_kernels_can_read_them(flatbuffer):
    content = pack(runtime.read(flatbuffer))
    model = schema.Model.GetRootAs(content, 0)
    starts = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert len(starts) > 20
    assert {start % 16 for start in starts} == {0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "Not valid JSON"),
        (b"\xff\xfe", "utf-8"),
        (b'{"bitat_version":"1","colour":"red"}', "Unknown key `colour`"),
        (b'{"labels":[]}', "`bitat_version` is missing"),
    ],
)
def test_a_record_that_cannot_be_read_is_one_clear_error(flatbuffer, text, words):
    model = runtime.read(convert.embed(flatbuffer, KNOWN))
    buffer = schema.BufferT()
    buffer.data = text
    model.buffers[model.metadata[1].buffer] = buffer
    with pytest.raises(ValueError, match=f"metadata cannot be read.*{words}"):
        convert.embedded(pack(model))


@pytest.mark.parametrize(
    "changes",
    [{"mean": ()}, {"std": (1.0,)}, {"std": (1.0, 0.0, 1.0)}, {"pixel_range": (1.0, 1.0)}],
)
def test_a_preprocessing_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="Received"):
        dataclasses.replace(KNOWN.preprocessing, **changes)


def test_the_input_s_range_follows():
    low, high = Preprocessing((128.0, 0.0), (64.0, 51.0), (0.0, 255.0)).input_range
    assert low == -2.0
    assert high == 5.0
