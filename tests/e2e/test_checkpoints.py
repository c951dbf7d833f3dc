"""A run that fails names the file with its last good weights, and that file is a model."""

import numpy as np
import pytest

from bitat_tf import data, train
from bitat_tf._keras import tf
from bitat_tf.cli import main
from bitat_tf.loading import load_keras_model

# The student's batches have a size of their own, by which `poisoned` knows them.
STUDENT_BATCH = 32


def settings(*pairs):
    return [part for pair in pairs for part in ("--set", pair)]


SMALL = settings("model.arguments.stem_channels=8", "model.arguments.blocks=[[2, 2]]")
QUICK = SMALL + settings(
    "teacher.epochs=1",
    "calibration.batches=2",
    f"student.batch_size={STUDENT_BATCH}",
    "student.steps=12",
    "student.log_steps=3",
)


@pytest.fixture
def saved(monkeypatch):
    """The weights at every checkpoint, by file name and step."""
    seen = {}
    save = train.Checkpoint.save

    def watch(self, step, accuracy=None):
        save(self, step, accuracy)
        seen[self.path.name, step] = self.model.get_weights()

    monkeypatch.setattr(train.Checkpoint, "save", watch)
    return seen


@pytest.fixture
def poisoned(monkeypatch):
    """Training images of the student that are NaN from its eighth step on."""
    load_batches = data.ImageData.train

    def batches(self, batch_size, **options):
        found = load_batches(self, batch_size, **options)
        if batch_size != STUDENT_BATCH:
            return found
        return found.enumerate().map(
            lambda index, batch: (tf.where(index >= 7, np.nan, batch[0]), batch[1])
        )

    monkeypatch.setattr(data.ImageData, "train", batches)


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("trainer", ["fit", "loop"])
def test_nan_in_the_student_s_training(capsys, tmp_path, saved, poisoned, trainer):
    out = tmp_path / "run"
    command = ["train", "digits-demo", *QUICK, *settings(f"student.trainer={trainer}")]
    assert main([*command, "--out", str(out)]) == 1
    path = out / "student.checkpoint.keras"
    line = last_line(capsys)
    assert line.startswith("bitat: binary student: The loss became nan at step 7.")
    assert f"{path} holds the weights of logged step 6." in line
    kept = load_keras_model(path).get_weights()
    for weight, at_that_step in zip(kept, saved[path.name, 6], strict=True):
        assert np.all(np.isfinite(weight))
        np.testing.assert_array_equal(weight, at_that_step)
    names = {p.name for p in out.iterdir()}
    assert {"teacher.keras", "calibrated.keras", "student.checkpoint.keras"} <= names
    assert not {"student.keras", "teacher.checkpoint.keras"} & names
    assert not list(out.glob(".*"))
    # the run, and the model in it, can be looked at
    assert main(["evaluate", str(out), str(path)]) == 0
    assert "student.checkpoint.keras" in capsys.readouterr().out


def test_a_learning_rate_that_makes_the_teacher_explode(capsys, tmp_path, saved):
    out = tmp_path / "run"
    # One step an epoch, each a logged point; the first has a learning rate of 0.
    explosive = SMALL + settings(
        "teacher.batch_size=1000",
        "teacher.epochs=5",
        "teacher.warmup_steps=2",
        "teacher.learning_rate=1e35",
    )
    assert main(["train", "digits-demo", *explosive, "--out", str(out)]) == 1
    path = out / "teacher.checkpoint.keras"
    line = last_line(capsys)
    assert "Lower the learning rate" in line
    assert f"{path} holds the weights of logged step 1." in line
    kept = load_keras_model(path).get_weights()
    for weight, at_that_step in zip(kept, saved[path.name, 1], strict=True):
        assert np.all(np.isfinite(weight))
        np.testing.assert_array_equal(weight, at_that_step)


def test_a_training_that_ends_well_leaves_no_checkpoint(tmp_path, saved):
    out = tmp_path / "run"
    assert main(["train", "digits-demo", *QUICK, "--out", str(out)]) == 0
    assert {name for name, _ in saved} == {"teacher.checkpoint.keras", "student.checkpoint.keras"}
    assert [step for name, step in saved if name.startswith("student")] == [3, 6, 9, 12]
    assert not list(out.glob("*checkpoint*"))


def test_overwriting_a_failed_run_takes_its_checkpoint_away(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.yaml").write_text("name: failed\n")
    (out / "student.checkpoint.keras").write_bytes(b"old")
    explode = SMALL + settings("teacher.epochs=1", "teacher.learning_rate=1e30")
    assert main(["train", "digits-demo", *explode, "--out", str(out), "--overwrite"]) == 1
    assert not (out / "student.checkpoint.keras").exists()
