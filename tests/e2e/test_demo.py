"""The promises of `make demo`, and the commands that go on from its directory."""

import json
import shutil

import numpy as np
import pytest

from bitat_tf import convert, report
from bitat_tf._keras import keras, tf
from bitat_tf.cli import main
from bitat_tf.graph import binary_units
from bitat_tf.metadata import Metadata
from bitat_tf.recipe_files import load_recipe


def test_the_demo_keeps_its_promises(demo):
    result = report.load(demo)
    accuracy = {score.model: score.test_accuracy for score in result.scores}
    assert accuracy["converted"] >= 0.96
    assert accuracy["trained"] >= 0.96
    assert result.parity.passed
    assert result.parity.agreement >= 0.995
    assert result.parity.images == 450  # the whole test split
    student = keras.models.load_model(demo / "student.keras", compile=False)
    inner = sum(len(unit.convolutions) for unit in binary_units(student))
    assert inner == 8
    assert result.audit.binary_convolutions == 6  # two pairs that double the channels are merged
    assert result.audit.float_convolutions == 1  # the stem
    size = {score.model: score.size_bytes for score in result.scores}
    assert size["converted"] == (demo / "model.tflite").stat().st_size < size["float"] / 5
    assert [record.model for record in result.latency] == ["binary", "float", "int8"]
    assert size["int8"] == (demo / "teacher-int8.tflite").stat().st_size < size["float"]
    assert accuracy["int8"] == pytest.approx(accuracy["float"], abs=0.015)
    assert all(record.device.startswith("host") for record in result.latency)


def test_the_demo_leaves_a_report_that_a_person_can_read(demo):
    text = (demo / "report.md").read_text()
    for figure in ("training.png", "calibration.png", "scores.png"):
        assert f"({figure})" in text
        assert (demo / figure).stat().st_size > 5000
    assert "say nothing about phones" in text
    assert not list(demo.glob(".*"))  # no temporary file is left


def test_the_resolved_recipe_lies_beside_the_result(demo):
    assert load_recipe(str(demo / "recipe.yaml")) == load_recipe("digits-demo")
    assert report.load(demo).versions["tensorflow"].startswith("2.21")


def test_convert_makes_the_same_bytes_again(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    assert main(["convert", str(run)]) == 0
    assert "6 binary and 1 float convolutions" in capsys.readouterr().out
    assert (run / "model.tflite").read_bytes() == (demo / "model.tflite").read_bytes()


def test_convert_takes_a_keras_file(demo, tmp_path):
    out = tmp_path / "mine.tflite"
    assert main(["convert", str(demo / "student.keras"), "--out", str(out)]) == 0
    # the same but for what a run knows of its data
    nothing = Metadata("")
    mine, theirs = (path.read_bytes() for path in (out, demo / "model.tflite"))
    assert convert.embed(mine, nothing) == convert.embed(theirs, nothing)


def test_convert_to_int8_ends_with_a_report(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    options = ["--ends", "int8", "--io", "int8", "--parity-images", "100", "--report"]
    assert main(["convert", str(run), *options]) == 0
    printed = capsys.readouterr().out
    assert "of 100 images" in printed
    assert "QUANTIZE" in printed
    audit = convert.audit((run / "model.tflite").read_bytes())
    assert (audit.input_type, audit.output_type) == ("INT8", "INT8")
    assert "merge_branches" in (run / "model.conversion.md").read_text()
    accuracy = {score.model: score.test_accuracy for score in report.load(run).scores}
    assert accuracy["converted"] == pytest.approx(accuracy["trained"], abs=0.02)


def test_convert_takes_a_saved_model_and_images(demo, tmp_path, capsys):
    model = keras.models.load_model(demo / "student.keras", compile=False)
    folder, images, out = tmp_path / "saved", tmp_path / "images.npy", tmp_path / "m.tflite"
    tf.keras.models.save_model(convert.strip(model), folder, save_format="tf")
    np.save(images, np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32))
    command = ["convert", str(folder), "--out", str(out), "--no-fold", "--images", str(images)]
    assert main(command) == 0
    assert "of 8 images" in capsys.readouterr().out
    assert out.stat().st_size > (demo / "model.tflite").stat().st_size


def test_evaluate_agrees_between_keras_and_flatbuffer(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    assert main(["evaluate", str(run)]) == 0
    assert "converted" in capsys.readouterr().out
    accuracy = {score.model: score.test_accuracy for score in report.load(run).scores}
    assert accuracy["trained"] == pytest.approx(accuracy["converted"], abs=0.003)
    other = [str(run / "model.tflite"), str(run / "student.keras")]
    assert main(["evaluate", str(run), *other]) == 0
    assert f"{accuracy['converted']:.2%}" in capsys.readouterr().out


def test_benchmark_prints_host_figures(demo, tmp_path, capsys):
    run = shutil.copytree(demo, tmp_path / "run")
    (run / "teacher-int8.tflite").unlink()  # as in a run of an earlier version
    command = ["benchmark", str(run), "--repeats", "5", "--warmup", "1", "--profile"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Host figures say nothing about phones" in printed
    for model in ("float", "int8", "binary"):
        assert any(line.split()[1:2] == [model] for line in printed.splitlines())
    result = report.load(run)
    assert [record.repeats for record in result.latency] == [5, 5, 5]
    assert [profile.model for profile in result.profiles] == ["binary", "float", "int8"]
    assert (run / "teacher-int8.tflite").read_bytes() == (demo / "teacher-int8.tflite").read_bytes()
    for name in ("comparison.png", "comparison.csv", "operators.png", "layers.png"):
        assert (run / name).stat().st_size > 100
    pair = [str(run / "model.tflite"), str(run / "teacher.tflite")]
    assert main(["benchmark", *pair, "--repeats", "3", "--profile"]) == 0
    printed = capsys.readouterr().out
    assert "teacher.tflite" in printed
    assert "LceBconv2d" in printed


def test_inspect_lists_every_operator(demo, capsys):
    assert main(["inspect", str(demo), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    audit = convert.audit((demo / "model.tflite").read_bytes())
    assert [op["type"] for op in record["ops"]] == [op.type for op in audit.ops]
    assert main(["inspect", str(demo / "student.keras")]) == 0
    assert "6 binary convolutions" in capsys.readouterr().out
    assert main(["inspect", str(demo / "teacher.keras")]) == 0
    assert "8 layers as LceBconv2d" in capsys.readouterr().out  # if `binarize` had it


def test_report_writes_what_was_deleted(demo, tmp_path):
    run = shutil.copytree(demo, tmp_path / "run")
    (run / "report.md").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.md").read_text() == (demo / "report.md").read_text()


def test_calibrate_starts_from_a_run_s_teacher(demo, tmp_path):
    out = tmp_path / "again"
    command = ["calibrate", str(demo), "--set", "calibration.threshold=zero", "--out", str(out)]
    assert main(command) == 0
    first, again = report.load(demo), report.load(out)
    assert again.recipe["calibration"]["threshold"] == "zero"
    assert [r.model for r in again.scores] == ["float", "one-shot calibrated"]
    assert again.scores[0].test_accuracy == first.scores[0].test_accuracy
    assert again.calibration.layers != first.calibration.layers


def test_a_run_is_not_overwritten_by_accident(demo, capsys):
    before = sorted(path.name for path in demo.iterdir())
    assert main(["demo", "--out", str(demo)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert sorted(path.name for path in demo.iterdir()) == before


def test_overwriting_leaves_nothing_of_the_run_before(demo, tmp_path):
    run = shutil.copytree(demo, tmp_path / "run")
    small = ["--set", "teacher.epochs=1", "--set", "student.steps=6"]
    assert main(["train", "digits-demo", *small, "--out", str(run), "--overwrite"]) == 0
    assert [s.model for s in report.load(run).scores] == ["float", "one-shot calibrated", "trained"]
    assert not (run / "model.tflite").exists()
    assert len(list((run / "logs" / "float-teacher").iterdir())) == 1


def test_a_progressive_run_reports_the_calibrations_it_was_made_of(tmp_path):
    settings = ("teacher.epochs=1", "student.steps=12", "student.progressive_steps=6")
    small = [part for setting in settings for part in ("--set", setting)]
    assert main(["train", "digits-demo", *small, "--out", str(tmp_path / "run")]) == 0
    result = report.load(tmp_path / "run")
    assert [stage.step for stage in result.stages] == [0, 1, 2, 3, 4, 5]
    assert len(result.calibration.layers) == 8


def test_a_recipe_can_switch_every_option_of_the_training_on(tmp_path):
    settings = ("teacher.epochs=1", "student.steps=12", "student.refresh_steps=4")
    settings += ("student.quantization_loss=0.1", "student.release_steps=6")
    settings += ("student.release_order=least_first", "student.batchnorm_batches=4")
    small = [part for setting in settings for part in ("--set", setting)]
    run = tmp_path / "run"
    assert main(["train", "digits-demo", *small, "--out", str(run)]) == 0
    first, last = (
        keras.models.load_model(run / f"{name}.keras", compile=False)
        for name in ("calibrated", "student")
    )
    before, after = (model.get_layer("block1_conv3x3") for model in (first, last))
    assert type(after.kernel_quantizer).__name__ == "ReleaseLeastFirst"
    assert (before.transform.correlation.numpy() != after.transform.correlation.numpy()).any()
    assert convert.audit(convert.export(last)).binary_convolutions == 6


def test_the_same_seed_gives_the_same_run(tmp_path):
    small = [
        "--set",
        "teacher.epochs=1",
        "--set",
        "student.steps=6",
        "--set",
        "student.log_steps=3",
    ]
    weights = []
    for name in ("a", "b"):
        assert main(["train", "digits-demo", *small, "--out", str(tmp_path / name)]) == 0
        model = keras.models.load_model(tmp_path / name / "student.keras", compile=False)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        assert (a == b).all()
