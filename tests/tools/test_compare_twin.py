"""The twin gets the time that the binary net took, and the table says who lacks what."""

import dataclasses
import json

import pytest
from PIL import Image

from bitat_tf.results import TrainingPoint

SETTING = [
    *("--recipe", "digits-demo", "--seeds", "0", "--steps", "40"),
    *("--set", "teacher.epochs=1", "--set", "student.batchnorm_batches=2"),
    *("--set", "model.arguments={stem_channels: 8, blocks: [[2, 2]], thresholds: 2}"),
    *("--set", "calibration.batches=1", "--quiet"),
]


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("compare_twin")


def test_the_twin_trains_for_as_long(tool, tmp_path, capsys):
    arguments = [*SETTING, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert tool.main(arguments) == 0
    teachers = [json.loads(p.read_text()) for p in (tmp_path / "out/teachers").glob("*.json")]
    teacher, twin = sorted(teachers, key=lambda record: record["recipe"]["teacher"]["epochs"])
    (path,) = (tmp_path / "out/records/twin-digits-demo").glob("*.json")
    student = json.loads(path.read_text())
    epochs = round((teacher["seconds"] + student["seconds"]) / teacher["seconds"])
    assert teacher["recipe"]["teacher"]["epochs"] == 1
    assert len(list((tmp_path / "out/teachers").glob("*.keras"))) == 1  # the twin teaches nobody
    assert twin["recipe"]["teacher"]["epochs"] == epochs >= 2
    text = (tmp_path / "out/twin-digits-demo.md").read_text()
    lacks = 100 * (twin["test_accuracy"] - student["test_accuracy"])
    assert f"The binary net lacks {lacks:.1f} points." in text
    assert f"| float, {epochs} epochs: as long as both |" in text
    assert "thresholds = 2" in text
    assert "python tools/compare_twin.py --recipe digits-demo" in text
    assert f"before any training step: {100 * student['calibrated_accuracy']:.1f} %." in text
    assert "![Validation accuracy over the time spent](twin-digits-demo.png)" in text
    with Image.open(tmp_path / "out/twin-digits-demo.png") as figure:
        assert figure.info["Description"] in text
    capsys.readouterr()

    # all there: nothing is trained, the same table comes out
    ages = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    assert tool.main(arguments) == 0
    assert ages == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    assert (tmp_path / "out/twin-digits-demo.md").read_text() == text


def test_several_seeds_have_a_spread(tool, tmp_path):
    recipe = tool.Recipe("r")
    seconds = {"teacher": 80.0, "student": 200.0, "twin": 280.0}

    def record(name, seed, accuracy):
        config = dataclasses.replace(recipe.teacher, epochs=8 if name == "teacher" else 28)
        made = tool.dataclasses.asdict(dataclasses.replace(recipe, teacher=config))
        return tool.Record(
            name, seed, made, "a machine", accuracy, accuracy, accuracy, seconds[name]
        )

    pairs = [
        tool.Pair(
            record("teacher", seed, 0.7),
            record("student", seed, 0.72),
            record("twin", seed, 0.74 + 0.02 * seed),
        )
        for seed in (0, 1)
    ]
    assert tool.epochs_in(pairs[0].seconds, pairs[0].teacher) == 28
    text = tool.markdown(pairs, "command", recipe, "figure.png")
    assert "lacks 3.0 +- 1.4 points" in text
    assert "| float, 28 epochs: as long as both | 75.0 +- 1.4 |" in text
    assert "5 minutes in all" in text


def test_the_binary_net_begins_where_its_teacher_ends(tool):
    recipe = tool.dataclasses.asdict(tool.Recipe("r"))

    def record(name, seconds, steps):
        points = tuple(TrainingPoint(step, 1.0, 0.5, validation_accuracy=0.6) for step in steps)
        return tool.Record(name, 0, recipe, "a machine", 0.7, 0.7, 0.7, seconds, curve=points)

    pair = tool.Pair(
        record("teacher", 120.0, (50, 100)),
        record("student", 240.0, (10, 40)),
        record("twin", 360.0, (150, 300)),
    )
    teacher, student, twin = tool.draw([pair]).axes[0].lines
    assert list(teacher.get_xdata()) == [1.0, 2.0]
    assert list(student.get_xdata()) == [3.0, 6.0]
    assert list(twin.get_xdata()) == [3.0, 6.0]
