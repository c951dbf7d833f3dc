"""Everything that TensorBoard shows is written, at the right steps, with the right values."""

import numpy as np
import pytest

from bitat_tf import models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.train.events import spectrum

STEPS, LOG_STEPS = 8, 2


def batches(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A progressive training, logged: its stages, its monitor, and the folder of its events."""
    keras.utils.set_random_seed(0)
    options = {"classes": 4, "input_size": 8, "input_channels": 1, "stem_channels": 8}
    student, teacher = (
        models.build("mobilenet_v1_react_nano", **options, blocks=((2, 2), (2, 1)), binary=binary)
        for binary in (True, False)
    )
    rng = np.random.default_rng(1)
    images = rng.normal(size=(96, 8, 8, 1)).astype("float32")
    labels = rng.integers(0, 4, 96).astype("int32")
    folder = tmp_path_factory.mktemp("logs")
    units = tuple(unit.name for unit in binary_units(student))
    stages = train.Stages(
        student,
        train.Schedule(units, STEPS, progressive_steps=4),
        teacher=teacher,
        calibration_data=[images],
    )
    monitor = train.Monitor(
        "student",
        STEPS,
        log_steps=LOG_STEPS,
        batch_size=32,
        events=train.Events(folder, student),
        validate=lambda: 0.5,
    )
    stages.on_stage, stages.on_calibration = monitor.stage, monitor.calibrated
    with monitor:
        train.train(
            train.Distilled(student),
            batches(images, labels),
            STEPS,
            train.cosine_adam(5e-2, STEPS),
            monitor,
            stages=stages,
            trainer="loop",
        )
    return stages, monitor, folder


def scalars(events, tag):
    return [(step, float(value)) for step, value in events[tag]]


def test_a_progressive_training_writes_every_chart(trained, read_events):
    stages, monitor, folder = trained
    events = read_events(folder)
    names = [layer.name for result in stages.calibrations for layer in result.layers]
    for kind in ("unexplained", "unexplained_floor", "importance", "flips"):
        found = [tag.partition("/")[2] for tag in events if tag.startswith(f"{kind}/")]
        assert set(found) - {"all_layers"} == set(names)
    for tag, field in (
        ("train/loss", "loss"),
        ("train/accuracy", "accuracy"),
        ("validation/accuracy", "validation_accuracy"),
    ):
        wanted = [(point.step, pytest.approx(getattr(point, field))) for point in monitor.points]
        assert scalars(events, tag) == wanted
    entered = [(record.step, record.binary_units) for record in stages.entered]
    assert len(entered) > 2
    assert scalars(events, "schedule/binary_units") == entered
    assert all(speed > 0 for _, speed in scalars(events, "train/images_per_second"))


def test_calibrations_are_written_at_the_step_of_their_stage(trained, read_events):
    stages, _, folder = trained
    events = read_events(folder)
    starts = [record.step for record in stages.entered if record.binary_units]
    assert len(starts) == len(stages.calibrations)
    profile = [
        pytest.approx(layer.unexplained_binary)
        for result in stages.calibrations
        for layer in result.layers
    ]
    by_position = sorted(scalars(events, "by_layer/unexplained"))
    assert [position for position, _ in by_position] == list(range(len(profile)))
    assert sorted(value for _, value in by_position) == sorted(profile, key=lambda v: v.expected)
    for start, result in zip(starts, stages.calibrations, strict=True):
        for layer in result.layers:
            wanted = pytest.approx(layer.unexplained_binary)
            assert scalars(events, f"unexplained/{layer.name}") == [(start, wanted)]
            ((step, histogram),) = events[f"importance/{layer.name}"]
            assert step == start
            assert histogram[:, 2].sum() == layer.inputs  # one entry for each direction


def test_flips_begin_with_the_layer_and_are_shares(trained, read_events):
    stages, _, folder = trained
    events = read_events(folder)
    starts = [record.step for record in stages.entered if record.binary_units]
    for start, result in zip(starts, stages.calibrations, strict=True):
        for layer in result.layers:
            found = scalars(events, f"flips/{layer.name}")
            assert [step for step, _ in found] == [
                step for step in range(LOG_STEPS, STEPS + 1, LOG_STEPS) if step > start
            ]
            assert all(0 <= rate < 0.5 for _, rate in found)
    assert max(rate for _, rate in scalars(events, "flips/all_layers")) > 0


@pytest.mark.parametrize("name", ["irnet", "stompp"])
def test_other_methods_have_flips_and_stages(
    name, tmp_path, tiny_options, tiny_teacher, images, labels, read_events
):
    method = train.method(name)
    student = models.build("mobilenet_v1_react_nano", **tiny_options, **method.layer_options)
    train.copy_float_weights(student, tiny_teacher)
    annealing = train.Annealing(student, method, STEPS)
    events = train.Events(tmp_path, student)
    monitor = train.Monitor("student", STEPS, log_steps=LOG_STEPS, events=events)
    annealing.on_stage = monitor.stage
    with monitor:
        train.train(
            train.Distilled(student),
            batches(images, labels),
            STEPS,
            method.optimizer(1e-2, STEPS),
            monitor,
            stages=annealing,
            trainer="loop",
        )
    found = read_events(tmp_path)
    layers = [c.name for unit in binary_units(student) for c in unit.convolutions]
    assert {f"flips/{layer}" for layer in layers} <= set(found)
    assert scalars(found, "schedule/binary_units")[-1][1] == len(binary_units(student))
    assert not [tag for tag in found if tag.startswith(("unexplained", "importance"))]


def test_events_are_on_disk_while_the_training_runs(tmp_path, tiny_student, read_events):
    with train.Monitor(
        "student", 4, log_steps=2, events=train.Events(tmp_path, tiny_student)
    ) as monitor:
        for step in range(3):
            monitor.step(step, 1.0, 0.5)
        assert scalars(read_events(tmp_path), "train/loss") == [(2, 1.0)]


def test_a_spectrum_is_relative_and_finite():
    values = spectrum(np.array([[4.0, 0.0], [-1e-9, 12.0]]))
    np.testing.assert_allclose(values, [-12, -12, 0, np.log10(3)], atol=1e-6)
    np.testing.assert_array_equal(values, spectrum(10 * np.array([[4.0, 0.0], [-1e-9, 12.0]])))
    assert np.all(spectrum(np.zeros((1, 3))) == -12)
