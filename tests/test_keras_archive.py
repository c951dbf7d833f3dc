"""A `.keras` file that is damaged, or larger inside than outside, never reaches Keras."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from bitat_tf import keras_archive
from bitat_tf._keras import keras
from bitat_tf.loading import load_keras_model, read_flatbuffer

layers = keras.layers
CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@pytest.fixture
def whole(tmp_path):
    """A `.keras` file as Keras writes it."""
    path = tmp_path / "whole.keras"
    keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(4)]).save(path)
    return path


@pytest.fixture
def members(whole):
    """What is in it."""
    with zipfile.ZipFile(whole) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Write members as an archive; Keras must not see it, and the message holds the words."""

    def check(members, *words, compression=zipfile.ZIP_STORED):
        path = tmp_path / "damaged.keras"
        if isinstance(members, bytes):
            path.write_bytes(members)
        else:
            with zipfile.ZipFile(path, "w", compression) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
        monkeypatch.setattr(keras.models, "load_model", None)
        with pytest.raises(ValueError, match="is not a Keras model that can be read") as caught:
            load_keras_model(path)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    return check


def hdf5(**datasets):
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        for name, arguments in datasets.items():
            written.create_dataset(name, **arguments)
    return file.getvalue()


def test_a_whole_file_loads_as_keras_loads_it(whole):
    keras_archive.check(whole)
    rows = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    expected = keras.models.load_model(whole, compile=False)(rows)
    np.testing.assert_array_equal(load_keras_model(whole)(rows), expected)


def test_a_deflated_file_loads_too(members, tmp_path):
    path = tmp_path / "deflated.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert load_keras_model(path).output_shape == (None, 4)


def test_a_flipped_bit_in_a_weight_is_found(whole, refused):
    # Keras reads the weights past zipfile's checksum: without the check, this bit would load.
    content = bytearray(whole.read_bytes())
    kernel = keras.models.load_model(whole).layers[0].get_weights()[0].tobytes()
    content[content.find(kernel) + 1000] ^= 1
    refused(bytes(content), f"checksum of {WEIGHTS}")


def test_files_that_are_no_archive(whole, refused):
    content = whole.read_bytes()
    refused(b"", "no zip archive")
    refused(content[: len(content) // 2], "no zip archive")
    refused(hdf5(vars={"data": np.ones(3)}), "no zip archive")


def test_members_must_be_there_once(members, refused):
    refused({CONFIG: members[CONFIG]}, f"one {WEIGHTS}")
    refused({WEIGHTS: members[WEIGHTS]}, f"one {CONFIG}")


def test_a_bomb_is_refused_by_the_sizes_it_declares(members, refused, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "testzip", None)  # nothing is inflated
    zeros = bytes(64 << 20)
    refused({**members, WEIGHTS: zeros}, "would expand to", compression=zipfile.ZIP_DEFLATED)


def test_more_than_the_limit_is_refused_whatever_the_file_s_size(members, refused, monkeypatch):
    monkeypatch.setattr(keras_archive, "MAX_BYTES", 1000)
    refused(members, "at most 1,000 are allowed")


def test_a_member_larger_than_it_declares_is_read_no_further(members, whole, refused):
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, WEIGHTS: bytes(64 << 20)}.items():
            archive.writestr(name, content)
    content = whole.read_bytes()
    size = content.rfind(b"PK\x01\x02") + 24  # of the last member, in the central directory
    refused(content[:size] + (1000).to_bytes(4, "little") + content[size + 4 :], WEIGHTS)


def test_other_compressions_are_refused(members, refused):
    refused(members, "stored or deflated", compression=zipfile.ZIP_BZIP2)


def test_arrays_must_be_as_large_as_what_is_stored(members, refused):
    terabyte = hdf5(vars={"shape": (1 << 38,), "dtype": "float32"})
    refused({**members, WEIGHTS: terabyte}, "arrays of 1,099,511,627,776 bytes")
    packed = hdf5(vars={"data": np.zeros(1 << 20), "compression": "gzip"})
    refused({**members, WEIGHTS: packed}, "arrays of 8,388,608 bytes")


def test_hdf5_that_is_none(members, refused):
    refused({**members, WEIGHTS: b"\x80\x04]q\x00."}, "signature")


def test_what_keras_raises_becomes_one_line(members, tmp_path):
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, CONFIG: b"[" * 100_000}.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="can be read: RecursionError"):
        load_keras_model(path)


def test_a_foreign_file_of_any_size_is_refused_by_its_first_bytes(tmp_path):
    path = tmp_path / "huge.tflite"
    with path.open("wb") as file:
        file.truncate(100 << 30)  # takes no room on disk, but would in memory
    with pytest.raises(ValueError, match="Not a TFLite flatbuffer"):
        read_flatbuffer(path)
    with path.open("r+b") as file:
        file.write(b"\x18\0\0\0TFL3")
    with pytest.raises(ValueError, match="up to 1,073,741,824 are taken"):
        read_flatbuffer(path)
