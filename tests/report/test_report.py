"""The report holds what the result holds, and nothing else; files are whole or absent."""

import dataclasses
import json
import re

import pytest

from bitat_tf import report
from bitat_tf.report import charts, figures
from bitat_tf.results import ModelScore, RunResult, TrainingPoint

EMPTY = RunResult(recipe={"name": "nothing-yet"}, versions={}, machine="a machine")
PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = {figures.TRAINING, figures.CALIBRATION, figures.SCORES}
FIGURES |= {charts.COMPARISON, charts.OPERATORS, charts.LAYERS}


def _files(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_full_report_is_complete_and_readable(tmp_path, make_result):
    result = make_result()
    path = report.write(result, tmp_path)
    assert path == tmp_path / "report.md"
    assert _files(tmp_path) == {"report.md", "report.json", "comparison.csv"} | FIGURES
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == FIGURES
    for name in FIGURES:
        assert (tmp_path / name).read_bytes().startswith(PNG)
    for layer in result.calibration.layers:
        assert f"| {layer.name} |" in text
    assert "7.10 points below the float model in test accuracy and 14.8 times smaller" in text
    assert "5 of 15 binary from step 0" in text
    assert "bitat train recipe.yaml" in text
    assert "tensorflow | 2.21.0" in text


def test_every_table_is_well_formed(make_result):
    blocks = re.findall(r"(?:^\|.*\|\n)+", report.render(make_result()), flags=re.MULTILINE)
    assert len(blocks) >= 10
    for block in blocks:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(columns) == 1


def test_names_cannot_break_a_table():
    result = dataclasses.replace(EMPTY, scores=(ModelScore("a|b\nc", 0.5, 10),))
    assert "| a\\|b c | 50.00 % | 10 bytes |" in report.render(result)


def test_the_result_survives_the_file(tmp_path, make_result):
    for result in (make_result(), EMPTY):
        report.save(result, tmp_path)
        assert report.load(tmp_path) == result


def test_missing_parts_are_said_to_be_missing(tmp_path):
    text = report.write(EMPTY, tmp_path).read_text(encoding="utf-8")
    assert _files(tmp_path) == {"report.md", "report.json"}
    for sentence in (
        "No model was scored on the test images yet.",
        "There is no training curve of the teacher.",
        "There is no training curve of the student.",
        "This run has no calibration.",
        "This run was not converted.",
        "The flatbuffer was not compared with Keras.",
        "No latency was measured.",
        "Not measured; `bitat benchmark RUN --profile` does it.",
        "Wall time: not recorded.",
    ):
        assert sentence in text
    assert ".png" not in text
    assert "None" not in text
    assert "nan" not in text


def test_unmeasured_scores_are_named_so(tmp_path):
    scores = (ModelScore("float", None, 100), ModelScore("converted", 0.9, None))
    text = report.write(dataclasses.replace(EMPTY, scores=scores), tmp_path).read_text()
    assert "| float | not measured | 100 bytes |" in text
    assert "| converted | 90.00 % | not measured |" in text
    assert "points" not in text


def test_an_earlier_reports_figures_go_when_their_data_does(tmp_path, make_result):
    report.write(make_result(), tmp_path)
    report.write(EMPTY, tmp_path)
    assert _files(tmp_path) == {"report.md", "report.json"}


def test_failures_stand_out(make_result):
    result = make_result()
    failed = dataclasses.replace(
        result,
        parity=dataclasses.replace(result.parity, agreement=0.98),
        audit=dataclasses.replace(result.audit, missing=("conv_3: CONV_2D",)),
    )
    text = report.render(failed)
    assert "**failed**, with 98.00 %" in text
    assert "**Not every convolution meant to be binary is:** conv_3: CONV_2D." in text
    assert "Every convolution meant to be binary" not in text


@pytest.mark.parametrize(("layers", "rows"), [(1, 1), (15, 1), (21, 2), (50, 3)])
def test_layer_names_stay_apart_however_many_there_are(make_result, layers, rows):
    figure = figures.draw_calibration(make_result(layers=layers).calibration)
    figure.draw_without_rendering()
    assert len(figure.axes) == rows
    names = [label for axes in figure.axes for label in axes.get_xticklabels()]
    assert len(names) == layers
    for axes in figure.axes:
        ends = [label.get_position()[0] for label in axes.get_xticklabels()]
        per_name = axes.transData.transform([(1, 0), (0, 0)])[:, 0]
        # A name turned by 50 degrees is about as wide as its height.
        height = axes.get_xticklabels()[0].get_fontsize() / 72 * figure.dpi
        assert per_name[0] - per_name[1] > height
        assert ends == sorted(ends)


def test_a_long_layer_name_keeps_both_ends(make_result):
    calibration = make_result(layers=1).calibration
    name = "stage_1_" + "very_" * 10 + "long_convolution"
    layers = (dataclasses.replace(calibration.layers[0], name=name),)
    figure = figures.draw_calibration(dataclasses.replace(calibration, layers=layers))
    (label,) = figure.axes[0].get_xticklabels()
    assert re.fullmatch(r"stage_1_.*\.\.\..*convolution", label.get_text())
    assert len(label.get_text()) <= 26


@pytest.mark.parametrize("stages", [1, 3, 15])
def test_every_stage_is_marked_in_the_student_only(make_result, stages):
    figure = figures.draw_training(make_result(stages=stages))
    loss_teacher, loss_student, accuracy_teacher, accuracy_student = figure.axes
    dashed = [
        sum(line.get_linestyle() == "--" for line in axes.lines)
        for axes in (loss_teacher, loss_student, accuracy_teacher, accuracy_student)
    ]
    assert dashed == [0, stages, 0, stages]
    labels = [text.get_text() for text in loss_student.texts]
    assert labels[-1].startswith("15/15")
    assert len(labels) <= 5


def test_one_curve_of_one_point_is_drawn():
    point = (TrainingPoint(10, 1.0, 0.5),)
    figure = figures.draw_training(dataclasses.replace(EMPTY, student_curve=point))
    assert len(figure.axes) == 2


def test_a_diverged_run_is_refused_and_the_earlier_file_stays(tmp_path, make_result):
    report.save(EMPTY, tmp_path)
    diverged = (TrainingPoint(10, float("nan"), 0.1),)
    with pytest.raises(ValueError, match="did the training diverge"):
        report.save(dataclasses.replace(EMPTY, student_curve=diverged), tmp_path)
    assert report.load(tmp_path) == EMPTY
    assert _files(tmp_path) == {"report.json"}


def test_a_figure_that_fails_leaves_nothing_half_written(tmp_path, make_result, monkeypatch):
    def fail(self, *_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(figures.Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(make_result(), tmp_path)
    assert _files(tmp_path) == {"report.json"}


def test_a_missing_or_foreign_report_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"`folder` must hold a readable report\.json"):
        report.load(tmp_path)
    path = tmp_path / "report.json"
    for text, reason in (
        ("{", "Not valid JSON"),
        ("[]", "must be a mapping"),
        (json.dumps({"recipe": {}, "versions": {}, "machine": "m", "x": 1}), "Unknown key `x`"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a valid report")) as caught:
            report.load(tmp_path)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
