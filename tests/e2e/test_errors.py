"""Bad input ends in one clear line and the right exit status, and leaves nothing behind."""

import subprocess
import sys

import pytest

from bitat_tf import models
from bitat_tf.cli import main


def fails(capsys, arguments, status, *words):
    """Run the command line; it must fail with one line that holds the words."""
    assert main([str(a) for a in arguments]) == status
    error = capsys.readouterr().err.strip()
    assert error.startswith("bitat: ")
    assert "\n" not in error
    for word in words:
        assert word in error


@pytest.fixture
def float_model(tmp_path):
    path = tmp_path / "float.keras"
    models.build("mobilenet_v1_react_nano", input_size=8, blocks=((2, 2),), binary=False).save(path)
    return path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.dataset=no_such_set_here"], ("no_such_set_here",)),
        (["data.dataset=/no/such/folder"], ("/no/such/folder",)),
        (["student.stepz=3"], ("Unknown key `student.stepz`",)),
        (["model.name=resnet_1000"], ("Known: mobilenet_v1_react",)),
        (["model.arguments.wdith=2"], ("wdith",)),
        (["model.arguments.blocks=[]"], ("`blocks` must be pairs",)),
        (["model.arguments.blocks=[[2]]"], ("`blocks` must be pairs",)),
        (["model.arguments.width=-1"], ("`width` must be positive",)),
        (["model.arguments.binary=true"], ("`model.arguments`", "binary")),
        (["student.batch_size=5000"], ("`batch_size`", "5000")),
        (["calibration.batches=500"], ("`batches`", "500")),
    ],
)
def test_a_recipe_that_cannot_run_leaves_no_output(capsys, tmp_path, settings, words):
    out = tmp_path / "run"
    overrides = [part for setting in settings for part in ("--set", setting)]
    fails(capsys, ["train", "digits-demo", *overrides, "--out", out], 2, *words)
    assert not out.exists()


def test_an_unknown_recipe(capsys, tmp_path):
    fails(capsys, ["train", "cifar11", "--out", tmp_path / "run"], 2, "cifar11", "digits-demo")


def test_a_missing_data_dir(capsys, tmp_path):
    out, missing = tmp_path / "run", tmp_path / "nowhere"
    fails(capsys, ["train", "cifar10-nano", "--data-dir", missing, "--out", out], 2, str(missing))
    assert not out.exists()


def test_a_data_dir_is_taken_as_it_is_written(capsys, tmp_path):
    for name in ("a #b", "2024", "~", "x: y"):
        command = ["train", "cifar10-nano", "--data-dir", tmp_path / name]
        fails(capsys, [*command, "--out", tmp_path / "run"], 2, str(tmp_path / name))


def test_an_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    fails(capsys, ["demo", "--out", tmp_path / "file" / "run"], 2, str(tmp_path / "file"))
    fails(capsys, ["demo", "--out", tmp_path / "file"], 2, "is a file")
    assert (tmp_path / "file").read_text() == ""


def test_an_output_directory_that_holds_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    fails(capsys, ["demo", "--out", tmp_path, "--overwrite"], 2, "something else than a run")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_flatbuffer_that_cannot_be_written(capsys, tmp_path, demo):
    command = ["convert", demo / "student.keras", "--out"]
    fails(capsys, [*command, tmp_path], 2, f"Is a directory: {tmp_path}")
    missing = tmp_path / "nowhere"
    fails(capsys, [*command, missing / "m.tflite"], 2, f"No such directory: {missing}")


def test_a_model_of_another_task_has_no_score(capsys, demo, tmp_path, float_model):
    fails(capsys, ["evaluate", demo, float_model], 2, "(8, 8, 3)", "(8, 8, 1)")


def test_a_directory_that_is_no_run(capsys, tmp_path):
    for command in ("convert", "evaluate", "benchmark", "report", "calibrate"):
        fails(capsys, [command, tmp_path], 2, "not a run directory")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [0, 4, 100, 1000, 20000, -1])
def test_a_truncated_flatbuffer(capsys, tmp_path, demo, cut):
    content = (demo / "model.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[:cut])
    fails(capsys, ["inspect", path], 2, str(path))
    fails(capsys, ["benchmark", path], 2, str(path))
    fails(capsys, ["evaluate", demo, path], 2, str(path))


def test_a_foreign_file_called_tflite(capsys, tmp_path):
    path = tmp_path / "photo.tflite"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    fails(capsys, ["inspect", path], 2, str(path))


def test_files_that_are_not_there_or_not_models(capsys, tmp_path):
    fails(capsys, ["inspect", tmp_path / "no.tflite"], 2, "no.tflite")
    fails(capsys, ["convert", tmp_path / "no.keras"], 2, "no.keras")
    (tmp_path / "bad.keras").write_bytes(b"not a zip")
    fails(capsys, ["convert", tmp_path / "bad.keras"], 2, "bad.keras")
    assert not (tmp_path / "bad.tflite").exists()


def test_conversion_options_that_need_images(capsys, tmp_path, demo):
    command = ["convert", demo / "student.keras", "--out", tmp_path / "m.tflite"]
    fails(capsys, [*command, "--ends", "int8"], 2, "give --images, or a run directory")
    fails(capsys, [*command, "--images", tmp_path / "no.npy"], 2, "no.npy")
    (tmp_path / "bad.npy").write_bytes(b"not an array")
    fails(capsys, [*command, "--images", tmp_path / "bad.npy"], 2, "bad.npy")
    fails(capsys, [*command, "--io", "int8"], 2, "needs ends='int8'")
    fails(capsys, ["convert", demo, "--images", tmp_path / "bad.npy"], 2, "outside a run")
    assert not (tmp_path / "m.tflite").exists()


def test_a_model_with_no_binary_layer(capsys, float_model):
    fails(capsys, ["convert", float_model], 2, "no binary convolution")
    assert not float_model.with_suffix(".tflite").exists()


def test_benchmark_refuses_mixed_and_endless_requests(capsys, demo):
    model = demo / "model.tflite"
    fails(capsys, ["benchmark", demo, model], 2, "not both")
    fails(capsys, ["benchmark", model, "--threads", "100000"], 2, "at most 64")
    fails(capsys, ["benchmark", model, "--repeats", "0"], 2, "at least 1")


def test_calibrate_does_not_write_over_the_run_it_reads(capsys, demo):
    fails(capsys, ["calibrate", demo, "--out", demo, "--overwrite"], 2, "another directory")


def test_a_training_that_diverges_is_a_failure(capsys, tmp_path):
    small = ["--set", "teacher.epochs=1", "--set", "teacher.learning_rate=1e30"]
    arguments = ["train", "digits-demo", *small, "--out", tmp_path / "run"]
    assert main([str(a) for a in arguments]) == 1
    assert "Lower the learning rate" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run" / "teacher.keras").exists()


def test_arguments_that_do_not_exist_exit_with_2():
    with pytest.raises(SystemExit) as caught:
        main(["train"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "command",
    ["demo", "train", "calibrate", "evaluate", "inspect", "convert", "benchmark", "report"],
)
def test_every_command_has_help_with_an_example(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"  bitat {command}" in capsys.readouterr().out


def test_the_installed_command_shows_a_traceback_only_when_asked(tmp_path):
    command = [sys.executable, "-m", "bitat_tf", "report", str(tmp_path)]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    verbose = subprocess.run([*command, "--verbose"], capture_output=True, text=True, timeout=120)
    assert verbose.returncode == 2
    assert "Traceback" in verbose.stderr
