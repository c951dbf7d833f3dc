"""The comparison goes on where it was killed, and its table says what was done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "compare_methods.py"

# Digits, a net of one block, a handful of steps.
SETTING = [
    *("--recipe", "digits-demo", "--seeds", "0", "1", "--steps", "4", "--distill", "0.5"),
    *("--set", "teacher.epochs=1", "--set", "student.batchnorm_batches=2"),
    *("--set", "model.arguments={stem_channels: 8, blocks: [[2, 2]]}"),
    *("--set", "calibration.batches=1", "--quiet", "--learning-rates", "1e-3", "1e-2"),
]


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("compare_methods")


def settings(tmp_path, *methods):
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    return ["--methods", *methods, *SETTING, *places]


@pytest.mark.timeout(600)
def test_a_killed_comparison_goes_on_where_it_was(tool, tmp_path, capsys):
    arguments = settings(tmp_path, "bitat", "ste")
    records = tmp_path / "out" / "records" / "methods-digits-distilled"
    root = str(TOOL.parents[1])
    process = subprocess.Popen(
        [sys.executable, str(TOOL), *arguments],
        env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (records / "bitat-lr0.001-seed0.json").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "out").glob("*.md"))
    teachers = tmp_path / "out" / "teachers"
    finished = {
        path: path.read_bytes() for folder in (records, teachers) for path in folder.glob("*.json")
    }
    assert "bitat-lr0.001-seed0.json" in {path.name for path in finished}
    assert len(list(teachers.glob("digits-*-seed0.keras"))) == 1
    assert len(finished) < 8
    for content in finished.values():
        json.loads(content)
    student = json.loads(finished[records / "bitat-lr0.001-seed0.json"])
    (teacher,) = (json.loads(p.read_text()) for p in teachers.glob("*-seed0.json"))
    assert student["teacher_accuracy"] == teacher["test_accuracy"]
    run = tmp_path / "work" / records.name / "bitat-lr0.001-seed0"
    assert json.loads((run / "report.json").read_text())["teacher_curve"] == teacher["curve"]
    ages = {path: path.stat().st_mtime_ns for path in finished}

    assert tool.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == ages
    # two methods at two learning rates, and each at its better one with the second teacher
    assert len(list(records.glob("*.json"))) == 2 * 2 + 2
    assert len(list(teachers.glob("*.json"))) == 2
    text = (tmp_path / "out" / "methods-digits-distilled.md").read_text()
    for name in ("float", "bitat", "ste"):
        assert f"| {name} |" in text
    assert "+-" in text
    assert "python tools/compare_methods.py --methods bitat ste" in text
    chosen_by = text[text.index("at each learning rate:") :]
    assert "| method | 0.001 | 0.01 |" in chosen_by
    validation = json.loads((records / "ste-lr0.01-seed0.json").read_text())["validation_accuracy"]
    assert f"| {100 * validation:.1f} |\n" in chosen_by[chosen_by.index("| ste |") :]
    for name in ("methods-digits-distilled.png", "methods-digits-distilled-steps.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000
        assert f"]({name})" in text
    capsys.readouterr()

    # all there: nothing is trained, the same table comes out
    work = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    assert tool.main(arguments) == 0
    assert work == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    assert (tmp_path / "out" / "methods-digits-distilled.md").read_text() == text

    # at one learning rate for all: a table of its own, from the same records
    at_one = [*arguments, "--seeds", "0", "--learning-rates", "1e-2"]
    assert tool.main(at_one) == 0
    assert work == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*")}
    text = (tmp_path / "out" / "methods-digits-distilled-lr0.01.md").read_text()
    assert "at a learning rate of 0.01" in text
    assert "each learning rate" not in text
    capsys.readouterr()

    # records of another setting are refused, not mixed in
    assert tool.main([*arguments, "--set", "student.temperature=4.0"]) == 2
    assert "other settings (student.temperature)" in capsys.readouterr().err


def test_an_unknown_method_is_one_line(tool, tmp_path, capsys):
    assert tool.main(settings(tmp_path, "magic")) == 2
    error = capsys.readouterr().err
    assert "one of bitat, ste" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_mean_and_spread(tool):
    assert tool.percent([0.5]) == "50.0"
    assert tool.percent([0.4, 0.6]) == "50.0 +- 14.1"


def test_records_name_no_place_of_this_machine(tool):
    command = tool.shown_command(
        "x.py", ["--data-dir", "/a b/c", "--dataset", "/a b/c/d"], "/a b/c"
    )
    assert command == "python tools/x.py --data-dir DIR --dataset DIR/d"
