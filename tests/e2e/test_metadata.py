"""What a run's flatbuffer says of itself, and `bitat evaluate` of the file alone."""

import dataclasses
import json
import shutil

import pytest

from bitat_tf import __version__, convert, data, report
from bitat_tf._keras import keras
from bitat_tf.cli import main
from bitat_tf.config import DataConfig
from bitat_tf.metadata import MeasuredShare
from bitat_tf.recipe_files import load_recipe
from bitat_tf.records import from_mapping


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def alone(demo, tmp_path):
    """The demo's flatbuffer, far from its run."""
    return shutil.copy(demo / "model.tflite", tmp_path / "alone.tflite")


@pytest.fixture
def bare(demo, tmp_path):
    """The same network as earlier versions wrote it."""
    student = keras.models.load_model(demo / "student.keras", compile=False)
    path = tmp_path / "bare.tflite"
    path.write_bytes(convert.export(student))
    return path


def digits():
    return data.load(from_mapping(DataConfig, {"dataset": "digits"}), seed=0)


def accuracy_of(demo, model):
    (score,) = (s.test_accuracy for s in report.load(demo).scores if s.model == model)
    return score


def refused(capsys, arguments, *words):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("bitat: ")
    assert "\n" not in error
    for word in words:
        assert word in error


def test_the_demo_s_flatbuffers_say_what_they_are(demo):
    known = convert.embedded((demo / "model.tflite").read_bytes())
    images = digits()
    assert known.bitat_version == __version__
    assert known.labels == tuple("0123456789")
    assert known.preprocessing.mean == images.mean
    assert known.preprocessing.std == images.std
    assert known.preprocessing.pixel_range == (0.0, 16.0)
    low, high = known.preprocessing.input_range
    pixels = next(iter(images.test(450)))[0].numpy()
    assert low == pytest.approx(pixels.min())
    assert high == pytest.approx(pixels.max())
    assert known.recipe["student"]["steps"] == load_recipe("digits-demo").student.steps
    assert known.keras_accuracy == MeasuredShare(accuracy_of(demo, "trained"), 450)
    assert known.agreement.share == report.load(demo).parity.agreement
    assert known.audit.binary_convolutions == 6
    audit = report.load(demo).audit
    assert audit.size_bytes == (demo / "model.tflite").stat().st_size
    assert audit.size.metadata > 500
    teacher = convert.embedded((demo / "teacher-int8.tflite").read_bytes())
    assert teacher.keras_accuracy.share == accuracy_of(demo, "float")
    assert teacher.agreement is None  # was not compared
    assert teacher.labels == known.labels


def test_a_flatbuffer_alone_is_evaluated_by_what_it_says(demo, alone, capsys):
    assert main(["evaluate", str(alone)]) == 0
    printed = capsys.readouterr().out
    assert f"{accuracy_of(demo, 'converted'):.2%}" in printed
    mean = convert.embedded((demo / "model.tflite").read_bytes()).preprocessing.mean[0]
    assert f"450 test images of 'digits'; (pixel - mean) / std with mean {mean:.4g}" in printed
    assert "10 labels compared" in printed
    assert f"Keras had {accuracy_of(demo, 'trained'):.2%}" in printed


def test_the_int8_twin_and_int8_input_are_evaluated_too(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    assert main(["convert", str(run), "--ends", "int8", "--io", "int8"]) == 0
    capsys.readouterr()
    files = [str(run / name) for name in ("model.tflite", "teacher-int8.tflite")]
    assert main(["evaluate", *files]) == 0
    printed = capsys.readouterr().out
    assert f"{accuracy_of(run, 'converted'):.2%}" in printed
    assert f"{accuracy_of(run, 'int8'):.2%}" in printed
    assert printed.count("rounded to int8 by the input's own scale") == 1


def test_a_flatbuffer_that_says_nothing_must_be_told(demo, bare, capsys):
    refused(capsys, ["evaluate", bare], "--mean", "--std", "bitat evaluate RUN FLATBUFFER")
    refused(capsys, ["evaluate", bare, "--mean", "5"], "--std")
    told = ["--mean", str(digits().mean[0]), "--std", str(digits().std[0])]
    refused(capsys, ["evaluate", bare, *told], "names no data set")
    refused(
        capsys, ["evaluate", bare, "--dataset", "digits", "--mean", "x", "--std", "1"], "--mean"
    )
    two = ["--mean", "1,2", "--std", "1,2"]
    refused(capsys, ["evaluate", bare, "--dataset", "digits", *two], "of 1 channels")
    assert main(["evaluate", str(bare), "--dataset", "digits", *told]) == 0
    printed = capsys.readouterr().out
    assert f"{accuracy_of(demo, 'converted'):.2%}" in printed
    assert "no labels to compare" in printed


def test_what_does_not_fit_is_refused(alone, demo, tmp_path, capsys):
    content = alone.read_bytes()
    known = convert.embedded(content)
    other = tmp_path / "other.tflite"
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    other.write_bytes(convert.embed(content, dataclasses.replace(known, labels=words)))
    refused(capsys, ["evaluate", other], "class 0 is 'zero' and not '0'")
    refused(capsys, ["evaluate", alone, "--mean", "5", "--std", "4"], "carries its mean and std")
    refused(capsys, ["evaluate", demo, "--dataset", "digits"], "a run has its own")
    refused(capsys, ["evaluate", alone, "--dataset", "no_such_set"], "no_such_set")
    wide = tmp_path / "wide.tflite"
    inputs = keras.Input((9, 9, 1))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    wide.write_bytes(convert.embed(convert.export_float(model), known))
    refused(capsys, ["evaluate", wide], "(9, 9, 1)", "(8, 8, 1)")


def test_inspect_shows_what_it_says(alone, bare, capsys):
    assert main(["inspect", str(alone)]) == 0
    printed = capsys.readouterr().out
    for word in ("data set", "digits", "10 labels", "input range", "same class as Keras"):
        assert word in printed
    assert "Size: " in printed  # of so small a network most is the graph
    assert "the graph itself" in printed
    assert main(["inspect", str(alone), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["metadata"]["dataset"] == "digits"
    assert record["size"]["metadata"] > 500
    assert main(["inspect", str(bare), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"] is None


def test_a_model_outside_a_run_says_no_more_than_is_known(demo, tmp_path):
    out = tmp_path / "plain.tflite"
    assert main(["convert", str(demo / "student.keras"), "--out", str(out)]) == 0
    known = convert.embedded(out.read_bytes())
    assert known.audit.binary_convolutions == 6
    assert dataclasses.replace(known, audit=None) == type(known)(bitat_version=__version__)


def test_convert_compares_layer_by_layer_on_request(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    assert main(["convert", str(run), "--parity-layers", "--report"]) == 0
    printed = capsys.readouterr().out
    assert "layer by layer, 16 images" in printed
    assert "No layer differs by more than 0.0001 of its largest output" in printed
    parity = report.load(run).parity
    assert len(parity.layers.layers) == len(report.load(run).audit.ops)
    assert "### Layer by layer" in (run / "model.conversion.md").read_text()
    refused(
        capsys,
        ["convert", demo / "student.keras", "--out", tmp_path / "m.tflite", "--parity-layers"],
        "give --images",
    )
