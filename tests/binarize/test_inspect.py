"""`bitat inspect` of a saved float model: the report, as a table and as JSON."""

import json

import pytest
from networks import trained, unusual, vgg

import bitat_tf as bitat
from bitat_tf._keras import keras
from bitat_tf.cli import main


@pytest.fixture
def saved(tmp_path):
    model = trained(vgg())
    model.compile()
    model.save(tmp_path / "vgg.keras")
    model.save(tmp_path / "saved_model")
    return tmp_path


@pytest.mark.parametrize("name", ["vgg.keras", "saved_model"])
def test_a_float_model_as_json(saved, capsys, name):
    assert main(["inspect", str(saved / name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    _, report = bitat.binarize(vgg())
    assert found["binary_layers"] == list(report.binary_layers)
    assert found["predicted_size_bytes"] == report.predicted_size_bytes
    assert found["float_macs"] == report.float_macs
    reasons = {layer["name"]: layer["reason"] for layer in found["layers"]}
    assert reasons["conv0"].startswith("first layer")
    assert 1 <= len(found["suggestions"]) <= 3


def test_a_float_model_as_a_table(saved, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(saved / "vgg.keras")]) == 0
    text = capsys.readouterr().out
    for word in ("conv1", "LceBconv2d", "first layer", "KiB (predicted", "Most useful changes"):
        assert word in text


def test_what_cannot_be_binarized_is_one_line(tmp_path, capsys):

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    model.compile()
    model.save(tmp_path / "open.keras")
    assert main(["inspect", str(tmp_path / "open.keras")]) == 2
    error = capsys.readouterr().err
    assert "unknown size" in error
    assert error.count("\n") == 1


def test_most_useful_changes_name_what_the_work_is():
    _, report = bitat.binarize(trained(unusual()))
    assert len(report.suggestions) == 3
    shares = [text for text in report.suggestions if "% of the float MACs" in text]
    assert shares


def test_a_report_prints_as_a_table():
    _, report = bitat.binarize(trained(vgg()))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 110 or "Most useful changes:" in lines
    for word in ("conv1", "LceBconv2d", "first layer", "KiB (predicted"):
        assert word in str(report)
    assert "\x1b" not in str(report)
    assert repr(report).startswith("BinarizeReport(model=")
