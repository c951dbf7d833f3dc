"""`bitat train --resume`: what is over is not repeated, and nothing that was kept is lost."""

import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_run

from bitat_tf import phases, report, run_directory, train
from bitat_tf.cli import main
from bitat_tf.loading import load_keras_model

SETTINGS = ("student.log_steps=5", "checkpoint.steps=4")


def command(out, *more):
    return tiny_run.command(out, *more, settings=SETTINGS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(command(out)) == 0
    return out


def same_end(one, other):
    for name in ("teacher", "calibrated", "student"):
        first, second = (load_keras_model(folder / f"{name}.keras") for folder in (one, other))
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    first, second = report.load(one), report.load(other)
    for field in ("teacher_curve", "student_curve", "stages", "scores"):
        assert getattr(first, field) == getattr(second, field)
    names = [{path.name for path in folder.iterdir()} for folder in (one, other)]
    assert names[0] == names[1]


def test_a_run_that_is_stopped_in_every_phase_ends_as_one_that_is_not(
    whole, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    done = []
    for function in ("train_teacher", "calibrate", "train_student"):
        wanted = getattr(phases, function)

        def watched(*arguments, _function=wanted):
            done.append(_function.__name__)
            return _function(*arguments)

        monkeypatch.setattr(phases, function, watched)
    save, after_step = run_directory.save_model, train.Keeper.after_step

    def stop_at_save(name, *, before):
        def stopped(folder, saved, model):
            if saved == name and before:
                raise KeyboardInterrupt
            save(folder, saved, model)
            if saved == name:
                raise KeyboardInterrupt

        monkeypatch.setattr(run_directory, "save_model", stopped)

    def stop_at_step(step):
        def stopped(self, done, *, last):
            after_step(self, done, last=last)
            if done == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(train.Keeper, "after_step", stopped)

    def resume():
        status = main(command(out, "--resume"))
        monkeypatch.setattr(run_directory, "save_model", save)
        monkeypatch.setattr(train.Keeper, "after_step", after_step)
        return status

    stop_at_step(7)
    assert resume() == 130
    stop_at_save("teacher", before=True)
    assert resume() == 130
    assert "goes on after step 4/" in capsys.readouterr().err
    stop_at_save("calibrated", before=False)
    assert resume() == 130
    assert "goes on after step 18/18" in capsys.readouterr().err
    stop_at_step(10)
    assert resume() == 130
    stop_at_save("student", before=True)
    assert resume() == 130
    assert "goes on after step 8/12" in capsys.readouterr().err
    assert resume() == 0
    assert done == [*["train_teacher"] * 3, "calibrate", *["train_student"] * 3]
    same_end(whole, out)


def test_a_run_that_is_over_says_so(whole, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert main(command(whole, "--resume")) == 0
    assert f"{whole} is finished: nothing is left to resume." in capsys.readouterr().out
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}


def test_another_recipe_is_refused_and_named(whole, capsys):
    changed = ["--set", "student.steps=13", "--seed", "1"]
    assert main(command(whole, "--resume", *changed)) == 2
    error = capsys.readouterr().err.strip()
    assert "seed is 1 and was 0; student.steps is 13 and was 12." in error
    assert "\n" not in error


def test_what_is_kept_may_change(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    assert main(command(out, "--resume", "--set", "checkpoint.keep=5")) == 0
    assert "keep: 5" in (out / "recipe.yaml").read_text()
    assert report.load(out).recipe["checkpoint"]["keep"] == 5


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(command(tmp_path / "run", "--resume", "--overwrite"))
    assert caught.value.code == 2


def test_a_directory_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(command(tmp_path, "--resume")) == 2
    assert "something else than a run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("way", ["--resume", "--overwrite"])
def test_two_processes_do_not_train_in_one_directory(whole, tmp_path, capsys, way):
    out = shutil.copytree(whole, tmp_path / "run")
    (out / ".student.keras.ab12cd34.keras").write_text("as the other one writes it")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with run_directory.locked(out):
        assert main(command(out, way)) == 2
    assert "Another process is at work" in capsys.readouterr().err
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}


def test_an_overwritten_run_keeps_no_report_of_the_conversion(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    (out / "model.conversion.md").write_text("of the earlier run")
    (out / "student.checkpoints").mkdir()  # killed between the model and this
    assert main(command(out, "--resume")) == 0
    assert not (out / "student.checkpoints").exists()
    run_directory.clear(out)
    assert [path.name for path in out.iterdir()] == ["recipe.yaml"]


def started(out, *more, **options):
    """The training as a process of its own."""
    line = [sys.executable, "-m", "bitat_tf", *command(out, *more)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def test_sigterm_finishes_the_step_and_exits_143(whole, tmp_path):
    out = tmp_path / "run"
    process = started(out, "--set", "student.steps=2000", "--set", "student.log_steps=2000")
    until = time.monotonic() + 300
    while not train.kept(run_directory.states_path(out, "student")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    line = error.decode().strip().splitlines()[-1]
    step = int(train.kept(run_directory.states_path(out, "student"))[-1].rpartition("-")[2])
    assert line == f"bitat: stopped by SIGTERM after step {step}, which is kept"
    assert "Traceback" not in error.decode()


def in_small_space(out, size):
    """A command line for a shell that may mount a file system of its own over `out`."""
    return ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs "{out}" && "$@"']


def test_a_full_disk_ends_in_one_line(tmp_path):
    probe = [*in_small_space(tmp_path, "1m"), "sh", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("a file system of one's own needs unshare and user namespaces")
    often = ("--set", "checkpoint.steps=1", "--set", "checkpoint.keep=50")
    training = [sys.executable, "-m", "bitat_tf", *command(tmp_path / "run", *often)]
    # Room for about ten states of the teacher, which makes 18.
    show = '"$@"; echo "status $?"; cat "$0"/checkpoint; ls -A "$0"'
    states = run_directory.states_path(tmp_path / "run", "teacher")
    line = [*in_small_space(tmp_path, "380k"), "sh", "sh", "-c", show, str(states)]
    done = subprocess.run([*line, *training], capture_output=True, text=True)
    assert "status 1" in done.stdout
    error = done.stderr.strip().splitlines()[-1]
    found = re.fullmatch(
        r"bitat: The checkpoint of step (\d+) cannot be written to .*: No space left on device\. "
        r"That of step (\d+) stays\. Once there is room, go on with --resume\.",
        error,
    )
    assert found, error
    failed, last = map(int, found.groups())
    assert failed == last + 1
    assert f'model_checkpoint_path: "step-{last}"' in done.stdout
    assert f"step-{last}.index" in done.stdout
    assert f"step-{failed}." not in done.stdout
    assert "Traceback" not in done.stderr
