"""A run can be looked at while it goes on, after it was killed, and when it is over."""

import re
import shutil

import pytest
import tiny_run

from bitat_tf import progress, report, run_directory, train
from bitat_tf.cli import main

SETTINGS = ("student.log_steps=4", "checkpoint.steps=5")


def command(out, *more):
    return tiny_run.command(out, *more, settings=SETTINGS)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was looked at after the student's step 10, and killed there."""
    out = tmp_path_factory.mktemp("runs") / "run"
    after_step = train.Keeper.after_step
    seen = {}

    def watched(self, done, *, last):
        after_step(self, done, last=last)
        if self.folder == run_directory.states_path(out, "student") and done == 10:
            seen["before"] = (out / "report.json").read_bytes()
            seen["status"] = main(["report", str(out)])
            seen["text"] = (out / "so-far" / "report.md").read_text()
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Keeper, "after_step", watched)
        assert main(command(out)) == 130
    assert seen["status"] == 0
    assert (out / "report.json").read_bytes() == seen["before"]  # it is the training's alone
    assert "**This run is not over.**" in seen["text"]
    assert "- student: step 8 of 12 (2/2 binary), at " in seen["text"]
    return out


def test_a_run_that_goes_on_says_how_far_it_is(stopped, capsys):
    with run_directory.locked(stopped):  # as the process that trains does
        assert main(["report", str(stopped)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"student: step 8 of 12 \(2/2 binary\), at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lines[0]
    )
    assert re.fullmatch(
        r"last point: step 8  loss \d\.\d{3}  accuracy [\d.]+%  validation [\d.]+%"
        r"  [\d,]+ images/s",
        lines[1],
    )
    assert re.fullmatch(r"left of this phase: about \d+:\d\d", lines[2])
    assert lines[3:5] == ["over: teacher, calibration", "to come: scores, report"]
    assert lines[5:] == [f"Report so far: {stopped / 'so-far' / 'report.md'}"]


def test_a_run_that_was_killed_says_so_and_shows_what_there_is(stopped, capsys):
    assert main(["report", str(stopped)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("interrupted in student: step 8 of 12 (2/2 binary), at ")
    assert "go on with --resume" in printed
    result = report.load(stopped / "so-far")
    assert [point.step for point in result.student_curve] == [4, 8]
    assert result.teacher_curve == report.load(stopped).teacher_curve != ()
    assert result.calibration == report.load(stopped).calibration
    text = (stopped / "so-far" / "report.md").read_text()
    assert "The student ends after step 8" in text
    for figure in ("training.png", "calibration.png"):
        assert (stopped / "so-far" / figure).stat().st_size > 5000
    assert not (stopped / "report.md").exists()


def test_the_charts_of_what_was_done_are_there(stopped, read_events):
    logs = stopped / "logs"
    assert {path.name for path in logs.iterdir()} == {
        "float-teacher",
        "calibration",
        "binary-student",
    }
    calibration, student = (read_events(logs / n) for n in ("calibration", "binary-student"))
    layers = {tag.partition("/")[2] for tag in calibration if tag.startswith("unexplained/")}
    assert layers == {layer.name for layer in report.load(stopped).calibration.layers}
    assert {tag.partition("/")[2] for tag in calibration if tag.startswith("importance/")} == layers
    assert {f"flips/{name}" for name in layers} <= set(student)
    assert [step for step, _ in student["train/loss"]] == [4, 8]
    assert not [tag for tag in read_events(logs / "float-teacher") if tag.startswith("flips")]


def test_when_it_is_over_nothing_of_that_is_left(stopped, tmp_path, capsys, read_events):
    out = shutil.copytree(stopped, tmp_path / "run")
    assert main(command(out, "--resume", "--no-tensorboard")) == 0
    assert "goes on after step 10/12" in capsys.readouterr().err
    assert not (out / "progress.json").exists()
    assert not (out / "so-far").exists()
    # nothing was logged of the steps that were resumed
    assert [step for step, _ in read_events(out / "logs" / "binary-student")["train/loss"]] == [
        4,
        8,
    ]
    assert "tensorboard: false" in (out / "recipe.yaml").read_text()
    assert [point.step for point in report.load(out).student_curve] == [4, 8, 12]
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out == f"Report: {out / 'report.md'}\n"


def test_a_run_that_ends_while_it_is_looked_at_is_over(stopped, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(stopped, tmp_path / "run")
    write = report.write

    def written_late(result, folder, note=""):
        progress.clear(out)  # as the training does at its end
        return write(result, folder, note)

    monkeypatch.setattr(report, "write", written_late)
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out == f"Report: {out / 'report.md'}\n"
    assert (out / "report.md").exists()
    assert not (out / "so-far").exists()


def test_where_directories_cannot_be_locked_nothing_is_said_of_a_process():
    now = progress.Progress(("teacher", "student"), "student", "noon", step=3, steps=9)
    text = progress.describe(now, going_on=None)
    assert text.startswith("student: step 3 of 9, at noon")
    assert "cannot be seen" in text
    assert "--resume" not in text


def test_a_run_without_tensorboard_has_no_logs(tmp_path, monkeypatch):
    out = tmp_path / "run"
    after_step = train.Keeper.after_step

    def watched(self, done, *, last):
        after_step(self, done, last=last)
        if last:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Keeper, "after_step", watched)
    assert main(command(out, "--no-tensorboard")) == 130
    assert not (out / "logs").exists()
    assert (out / "progress.json").exists()


def test_a_damaged_progress_ends_in_one_line(stopped, tmp_path, capsys):
    out = shutil.copytree(stopped, tmp_path / "run")
    (out / "progress.json").write_text('{"phase": "student"}')
    assert main(["report", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"bitat: {out / 'progress.json'} is damaged: `phases` is missing.")
    assert "--resume" in error
    assert "\n" not in error
