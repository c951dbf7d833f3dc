"""A training that was interrupted ends as one that was not, bit for bit."""

import errno
import json
import re

import numpy as np
import pytest

from bitat_tf import config, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.termination import Terminated

STEPS = 12


class Interrupted(Exception):
    pass


class Resumable:
    """One training, as `session.carry_out` makes it, without a run directory.

    Each is made anew, as in a process of its own: nothing is handed on but the directory.
    """

    def __init__(
        self, folder, model, optimizer, batches, keep, stages=None, also=(), trainer="loop"
    ):
        self.model, self.optimizer, self.batches = model, optimizer, batches
        self.student = model.student
        self.stages, self.also, self.trainer = stages, also, trainer
        self.monitor = train.Monitor("test", STEPS, log_steps=5, validate=lambda: 0.5)
        self.requested = False
        parts = {"monitor": self.monitor} | ({"stages": stages} if stages else {})
        self.keeper = train.Keeper(
            folder,
            self.student,
            optimizer,
            keep or config.CheckpointConfig(steps=2, seconds=0),
            parts,
            requested=lambda: self.requested,
        )

    def run(self, stop_after=None, error=Interrupted):
        """Resume, and train until the end, or until an error after so many steps."""
        done = self.keeper.restore()
        count = self.keeper.after_step

        def after_step(step, *, last):
            if step == stop_after and error is Interrupted:
                raise Interrupted
            self.requested = step == stop_after
            count(step, last=last)

        self.keeper.after_step = after_step
        with self.monitor:
            train.train(
                self.model,
                self.batches.skip(done),
                STEPS,
                self.optimizer,
                self.monitor,
                stages=train.InTurn(self.stages, *self.also) if self.stages else None,
                trainer=self.trainer,
                keeper=self.keeper,
            )
        return done

    def outcome(self):
        """All that an interruption must not change."""
        variables = [*self.student.weights, *self.optimizer.variables]
        memory = {"points": self.monitor.state()["points"]}
        if self.stages:
            memory["stages"] = self.stages.state()
        text = re.sub(r'"seconds": [0-9.e-]+', "", json.dumps(memory))
        return [v.numpy() for v in variables], text


def plain(folder, images, labels, keep=None, units=4, **options):
    """The least that can be trained: what is kept is the same for every model."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    student = keras.Model(image, keras.layers.Dense(units)(keras.layers.Flatten()(image)))
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    optimizer = train.cosine_adam(1e-2, STEPS)
    return Resumable(folder, train.Distilled(student), optimizer, batches, keep, **options)


def binary(folder, options, student_config, teacher, images, labels):
    """The training of a recipe's student, on the tiny network."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    method = train.method(student_config.method)
    layer_options = {**method.layer_options, **train.option_layers(student_config)}
    student = models.build("mobilenet_v1_react_nano", **options, **layer_options, max_block=16)
    calibration = [(images[:96], labels[:96]), (images[96:], labels[96:])]
    weighed = config.CalibrationConfig(task_weights=True)
    decay, also = None, ()
    if method.calibrated:
        units = tuple(unit.name for unit in binary_units(student))
        schedule = train.Schedule(units, STEPS, student_config.progressive_steps)
        stages = train.Stages(
            student, schedule, teacher=teacher, calibration_data=calibration, config=weighed
        )
        also = train.option_steps(student, schedule, student_config, calibration, 2)
        if not student_config.progressive_steps:
            train.calibrate(student, teacher, calibration, config=weighed)
    else:
        train.copy_float_weights(student, teacher)
        stages = train.Annealing(student, method, STEPS)
        decay = stages.weight_decay
    model = train.Distilled(
        student,
        teacher,
        student_config.distill_weight,
        2.0,
        decay,
        student_config.quantization_loss,
        student_config.feature_weight,
    )
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    optimizer = method.optimizer(1e-2, STEPS)
    return Resumable(folder, model, optimizer, batches, None, stages, also, student_config.trainer)


def assert_same(one, other):
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


# All that happens in a training at some step: stages that calibrate, refresh, release, distilling.
EVERYTHING = {
    "progressive_steps": 6,
    "refresh_steps": 3,
    "release_steps": 4,
    "quantization_loss": 0.1,
    "distill_weight": 0.5,
    "feature_weight": 0.1,
}
CASES = {
    "everything, fit": EVERYTHING,
    "stompp": {"method": "stompp", "trainer": "loop"},
    "react-two-step": {"method": "react-two-step", "distill_weight": 0.5},
}
SLOW = {
    f"{name}, {trainer}": {"method": name, "trainer": trainer}
    for name in train.METHODS
    for trainer in ("fit", "loop")
} | {"everything, loop": {**EVERYTHING, "trainer": "loop"}}


@pytest.fixture
def make(tmp_path, tiny_options, tiny_teacher, images, labels):
    def new(folder, options):
        student_config = config.StudentConfig(steps=STEPS, **options)
        arguments = (tiny_options, student_config, tiny_teacher, images, labels)
        return binary(tmp_path / folder, *arguments)

    return new


@pytest.fixture
def make_plain(tmp_path, images, labels):
    def new(folder="it", **options):
        return plain(tmp_path / folder, images, labels, **options)

    return new


@pytest.mark.parametrize(
    "options",
    [
        *(pytest.param(options, id=name) for name, options in CASES.items()),
        *(pytest.param(o, id=name, marks=pytest.mark.slow) for name, o in SLOW.items()),
    ],
)
def test_an_interrupted_training_ends_in_the_same_weights(make, options):
    whole = make("whole", options)
    assert whole.run() == 0
    # Stopped between two checkpoints, the step after the last is lost and done again.
    with pytest.raises(Interrupted):
        make("interrupted", options).run(stop_after=7)
    resumed = make("interrupted", options)
    assert resumed.run() == 6
    assert_same(resumed.outcome(), whole.outcome())


def test_sigterm_keeps_the_step_that_it_met(make_plain):
    with pytest.raises(Terminated, match="after step 5, which is kept"):
        make_plain().run(stop_after=5, error=Terminated)
    assert make_plain().run() == 5


def test_as_many_checkpoints_are_kept_as_asked_for(make_plain):
    training = make_plain(keep=config.CheckpointConfig(steps=3, seconds=0, keep=3))
    training.run()
    steps = [path.rpartition("-")[2] for path in train.kept(training.keeper.folder)]
    assert steps == ["6", "9", "12"]
    files = {path.name for path in training.keeper.folder.iterdir()}
    assert len(files) == 7  # an index and the data of each, and the list


def test_a_damaged_or_unfinished_checkpoint_is_not_taken(make_plain):
    first = make_plain()
    with pytest.raises(Interrupted):
        first.run(stop_after=7)
    older, newest = train.kept(first.keeper.folder)
    assert (older[-2:], newest[-2:]) == ("-4", "-6")
    data = first.keeper.folder / "step-6.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    # as a process leaves them that is killed while it writes
    (first.keeper.folder / "step-8.index").write_bytes(b"half")
    (first.keeper.folder / "step-8_temp").mkdir()
    assert train.damage(newest)
    assert train.damage(older) == ""
    said = []
    second = make_plain()
    second.keeper._say = said.append
    assert second.run() == 4
    assert f"{newest} is damaged" in said[0]
    assert said[1:] == [f"checkpoint {older} is taken"]
    whole = make_plain("whole")
    whole.run()
    assert_same(second.outcome(), whole.outcome())


@pytest.mark.parametrize("content", [b"", bytes(80), b"model_checkpoint_path: ", None])
def test_a_damaged_list_costs_no_checkpoint(make_plain, content):
    first = make_plain()
    with pytest.raises(Interrupted):
        first.run(stop_after=7)
    checkpoints = train.kept(first.keeper.folder)
    listed = first.keeper.folder / "checkpoint"
    if content is None:
        listed.unlink()  # killed before it was there
    else:
        listed.write_bytes(content)
    assert train.kept(first.keeper.folder) == checkpoints
    said = []
    second = make_plain()
    second.keeper._say = said.append
    assert second.run() == 6
    assert [line[-16:] for line in said] == ([] if content is None else [" 2 found by name"])
    steps = [path.rpartition("-")[2] for path in train.kept(second.keeper.folder)]
    assert steps == ["10", "12"]


def test_without_a_whole_checkpoint_it_says_that_it_starts_again(make_plain):
    first = make_plain(keep=config.CheckpointConfig(steps=2, seconds=0, keep=1))
    with pytest.raises(Interrupted):
        first.run(stop_after=7)
    (newest,) = train.kept(first.keeper.folder)
    (first.keeper.folder / "step-6.data-00000-of-00001").write_bytes(b"half")
    said = []
    second = make_plain()
    second.keeper._say = said.append
    assert second.run() == 0
    assert f"{newest} is damaged" in said[0]
    assert said[1:] == ["no checkpoint is whole: the training starts again"]


def test_a_state_of_another_model_is_refused(make_plain):
    make_plain().run()
    with pytest.raises(ValueError, match="another model"):
        make_plain(units=5).run()


def test_a_full_disk_ends_in_one_line_and_the_last_state_stays(make_plain, monkeypatch):
    """As TensorFlow says it of a full tmpfs; tests/e2e/test_resume.py has a real one."""
    training = make_plain()
    write = tf.train.CheckpointManager.save

    def full(self, checkpoint_number):
        if checkpoint_number == 6:
            (training.keeper.folder / "step-6.data-00000-of-00001").write_bytes(b"half")
            raise tf.errors.ResourceExhaustedError(None, None, "/a/b; No space left on device")
        return write(self, checkpoint_number)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(OSError, match=r"step 6 .*No space left.* That of step 4 stays") as caught:
        training.run()
    assert "\n" not in str(caught.value)
    assert caught.value.errno != errno.ENOENT
    assert [path[-1] for path in train.kept(training.keeper.folder)] == ["2", "4"]
    assert not list(training.keeper.folder.glob("step-6*"))


def test_weights_that_are_not_finite_are_never_kept(make_plain):
    training = make_plain()
    training.run()
    bias = training.student.layers[-1].bias
    bias.assign(np.nan * bias)
    with pytest.raises(FloatingPointError):
        training.keeper.save(STEPS + 1)
    assert [p.rpartition("-")[2] for p in train.kept(training.keeper.folder)] == ["10", "12"]


@pytest.mark.parametrize("trainer", ["fit", "loop"])
def test_a_data_set_that_ends_early_is_an_error(make_plain, trainer, caplog):
    training = make_plain(trainer=trainer)
    training.batches = training.batches.take(7)
    with pytest.raises(train.TrainingError, match="ended after step 7 of 12"):
        training.run()
    assert not caplog.records
    assert training.keeper.restore() == 6


def test_seconds_count_where_steps_take_long(make_plain, monkeypatch):
    clock = iter(range(0, 10**6, 40))
    monkeypatch.setattr(train.keeper.time, "monotonic", lambda: next(clock))
    training = make_plain(keep=config.CheckpointConfig(steps=0, seconds=100, keep=9))
    training.run()
    steps = [int(path.rpartition("-")[2]) for path in train.kept(training.keeper.folder)]
    assert steps[-1] == STEPS
    assert 3 <= len(steps) < STEPS


def test_a_training_that_starts_anew_forgets(make_plain):
    training = make_plain()
    training.run()
    training.keeper.forget()
    assert not training.keeper.folder.exists()
    training.keeper.forget()
    assert make_plain().keeper.restore() == 0
