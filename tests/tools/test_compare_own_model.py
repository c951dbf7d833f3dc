"""The comparison on a network of one's own: both methods start from the same float weights."""

import json

import numpy as np
import pytest

from bitat_tf import train
from bitat_tf.graph import binary_units

SETTING = [
    *("--recipe", "digits-demo", "--seeds", "0", "--steps", "3", "--learning-rates", "1e-3"),
    *("--set", "teacher.epochs=1", "--set", "student.batchnorm_batches=2"),
    *("--set", "model.arguments={width: 8}", "--set", "calibration.batches=1", "--quiet"),
]


@pytest.fixture(scope="module")
def tool(load_tool):
    load_tool("compare_methods")
    return load_tool("compare_own_model")


def test_it_is_none_of_the_backbones_and_binarized_as_asked(tool):
    arguments = {"classes": 10, "input_size": 8, "input_channels": 1, "width": 8}
    model = tool.build(**arguments, binary=False)
    student = tool.build(**arguments, activation_quantizer="ste_sign")
    train.copy_float_weights(student, model)
    for unit in binary_units(student):
        assert type(unit.sign.quantizer).__name__ == "SteSign"
        unit.activate(False)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(student(images), model(images), atol=1e-4)
    shortcut = [layer.name for layer in student.layers if "_shortcut" in layer.name]
    assert shortcut == ["stage0_a_shortcut"]
    plain = tool.build(**arguments, without=["shortcut"])
    assert not [layer for layer in plain.layers if "_shortcut" in layer.name]


def test_a_few_steps_on_digits(tool, tmp_path, capsys):
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert tool.main([*SETTING, *places]) == 0
    text = capsys.readouterr().out
    for name in ("float", "bitat", "ste"):
        assert f"| {name} |" in text
    assert "backbone own_cnn" in text
    assert "python tools/compare_own_model.py" in text
    folder = tmp_path / "out" / "records" / "own-model"
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert set(found) == {"bitat-lr0.001-seed0.json", "ste-lr0.001-seed0.json"}
    assert found["bitat-lr0.001-seed0.json"]["calibrated_accuracy"] is not None
