"""A training that is interrupted goes on from its checkpoint; one that is over is made anew."""

import json

import pytest

from bitat_tf import train
from bitat_tf.recipe_files import load_recipe

STEPS = 6
SETTINGS = (
    *("teacher.epochs=1", f"student.steps={STEPS}", "student.batchnorm_batches=2"),
    *("model.arguments={stem_channels: 8, blocks: [[2, 2]]}", "calibration.batches=1"),
    *("checkpoint.steps=1", "student.log_steps=2"),
)


class Killed(BaseException):
    """Nothing of the tool catches it, as nothing catches a kill."""


class Watch:
    """The finished steps of all trainings; one of them can be killed.

    Attributes:
        steps: (title of the training, step).
        kill: the same; None kills none.
    """

    def __init__(self):
        self.steps = []
        self.kill = None

    def of(self, title):
        return [step for name, step in self.steps if name == title]


@pytest.fixture
def watched(monkeypatch):
    watch, real = Watch(), train.Monitor.step

    def step(self, index, loss, accuracy):
        real(self, index, loss, accuracy)
        if watch.kill == (self.title, index):
            raise Killed
        watch.steps.append((self.title, index))

    monkeypatch.setattr(train.Monitor, "step", step)
    return watch


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("experiments")


@pytest.fixture
def make(tool, tmp_path):
    def experiments(place, *settings):
        root = tmp_path / place
        recipe = load_recipe("digits-demo", [*SETTINGS, *settings])
        return tool.Experiments(recipe, root / "records", root / "teachers", root / "work")

    return experiments


def test_student_and_teacher_go_on_where_they_were_killed(tool, make, watched):
    binary = tool.Variant("binary")
    whole = make("whole").record(binary, 0)
    epoch = len(watched.of("float teacher"))

    watched.steps.clear()
    watched.kill = ("float teacher", 3)
    with pytest.raises(Killed):
        make("killed").record(binary, 0)
    watched.kill = ("binary student", 4)
    with pytest.raises(Killed):
        make("killed").record(binary, 0)
    watched.kill = None
    killed = make("killed").record(binary, 0)

    # The step that was killed is done again, and none before it.
    assert watched.of("float teacher") == list(range(epoch))
    assert watched.of("binary student") == list(range(STEPS))
    assert [point.step for point in killed.curve] == [point.step for point in whole.curve]
    assert killed.curve[-1].loss == pytest.approx(whole.curve[-1].loss, rel=1e-3)
    assert killed.calibrated_accuracy == pytest.approx(whole.calibrated_accuracy, abs=0.01)
    assert killed.recipe == whole.recipe


def test_other_settings_and_a_removed_record_start_again(tool, make, watched):
    binary = tool.Variant("binary")
    watched.kill = ("binary student", 4)
    with pytest.raises(Killed):
        make("place").record(binary, 0)
    watched.kill = None
    watched.steps.clear()
    other = make("place", "student.temperature=2.0")
    record = other.record(binary, 0)
    assert watched.of("binary student") == list(range(STEPS))
    assert record.recipe["student"]["temperature"] == 2.0

    watched.steps.clear()
    path = other.folder / "binary-seed0.json"
    path.unlink()
    other.record(binary, 0)
    assert watched.of("binary student") == list(range(STEPS))
    assert json.loads(path.read_text())["seed"] == 0
