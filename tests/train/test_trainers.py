"""The two ways of training are one: same stages at the same steps, same weights."""

import numpy as np
import pytest

from bitat_tf import config, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.importance import quantization_error

STEPS = 12


def endless(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()


def schedule_for(student, **arguments):
    units = tuple(unit.name for unit in binary_units(student))
    return train.Schedule(units, STEPS, **arguments)


def run(trainer, student, teacher, images, labels, **schedule):
    initial = student.get_weights()
    stages = train.Stages(
        student, schedule_for(student, **schedule), teacher=teacher, calibration_data=[images]
    )
    optimizer = train.cosine_adam(1e-2, STEPS)
    with train.Monitor("test", STEPS, log_steps=4) as monitor:
        train.train(
            train.Distilled(student, teacher, weight=0.5, temperature=2.0),
            endless(images, labels),
            STEPS,
            optimizer,
            monitor,
            stages=stages,
            trainer=trainer,
        )
    final = student.get_weights()
    student.set_weights(initial)
    return final, stages.entered, monitor.points


@pytest.mark.parametrize("progressive", [0, 8])
def test_fit_and_loop_run_the_same_stages_to_the_same_weights(
    tiny_student, tiny_teacher, images, labels, progressive
):
    fit, loop = (
        run(t, tiny_student, tiny_teacher, images, labels, progressive_steps=progressive)
        for t in ("fit", "loop")
    )
    assert [r.step for r in fit[1]] == ([0, 2, 4, 6] if progressive else [0])
    assert fit[1] == loop[1]
    assert fit[2] == loop[2]
    assert [p.step for p in fit[2]] == [4, 8, 12]
    for a, b in zip(fit[0], loop[0], strict=True):
        np.testing.assert_array_equal(a, b)


OPTIONS = config.StudentConfig(
    steps=STEPS, refresh_steps=3, quantization_loss=0.1, release_steps=4, progressive_steps=6
)


def run_with_options(trainer, options, teacher, images, labels):
    """All options on, as a recipe has them."""
    keras.utils.set_random_seed(0)
    student = models.build(
        "mobilenet_v1_react_nano", **options, **train.option_layers(OPTIONS), max_block=16
    )
    schedule = schedule_for(student, progressive_steps=OPTIONS.progressive_steps)
    batches = [images[:96], images[96:]]
    stages = train.Stages(student, schedule, teacher=teacher, calibration_data=batches)
    also = train.option_steps(student, schedule, OPTIONS, batches, 2)
    distilled = train.Distilled(student, quantization_loss=OPTIONS.quantization_loss)
    with train.Monitor("test", STEPS, log_steps=4) as monitor:
        train.train(
            distilled,
            endless(images, labels),
            STEPS,
            train.cosine_adam(1e-2, STEPS),
            monitor,
            stages=train.InTurn(stages, *also),
            trainer=trainer,
        )
    return student, monitor.points


def test_fit_and_loop_are_the_same_with_all_options(tiny_options, tiny_teacher, images, labels):
    fit, loop = (
        run_with_options(t, tiny_options, tiny_teacher, images, labels) for t in ("fit", "loop")
    )
    assert fit[1] == loop[1]
    for a, b in zip(fit[0].get_weights(), loop[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(unit.binary for unit in binary_units(fit[0]))


def test_options_that_are_off_add_nothing(tiny_student, images):
    plain = config.StudentConfig()
    assert train.option_layers(plain) == {}
    assert train.option_steps(tiny_student, schedule_for(tiny_student), plain, [images], 1) == ()


def test_the_quantization_loss_is_the_mean_of_the_layers_errors(
    tiny_student, tiny_teacher, images, labels
):
    train.calibrate(tiny_student, tiny_teacher, [images])
    units = binary_units(tiny_student)
    errors = [
        float(quantization_error(c.kernel.latent_variable, c.transform.correlation))
        for unit in units
        for c in unit.convolutions
    ]
    mean = train.distill.mean_quantization_error
    assert float(mean(tiny_student)) == pytest.approx(np.mean(errors))
    assert np.mean(errors) > 0.05
    units[-1].activate(False)  # one convolution: it counts with 0
    assert float(mean(tiny_student)) == pytest.approx(sum(errors[:-1]) / len(errors))
    units[-1].activate(True)
    # as the only thing to be learnt, it is learnt
    model = train.Distilled(tiny_student, quantization_loss=100.0)
    optimizer = keras.optimizers.Adam(1e-3)
    for _ in range(20):
        train.distill.optimizer_step(model, optimizer, images[:32], labels[:32])
    assert float(mean(tiny_student)) < 0.9 * np.mean(errors)


def test_a_float_network_has_no_quantization_loss(tiny_teacher):
    with pytest.raises(ValueError, match="needs a student with binary convolutions"):
        train.Distilled(tiny_teacher, quantization_loss=0.1)


def test_the_callback_asks_what_else_there_is(tiny_student, images, labels):
    steps = []

    class Other:
        def before_step(self, step):
            steps.append(step)

    callback = train.BitatCallback(schedule_for(tiny_student), also=[Other()])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tiny_student.compile(train.cosine_adam(1e-3, STEPS), loss)
    tiny_student.fit(images, labels, batch_size=96, verbose=0, callbacks=[callback])
    assert steps == [0, 1]


def test_a_plain_model_fit_with_the_callback_obeys_the_schedule(
    tiny_student, tiny_teacher, images, labels
):
    schedule = schedule_for(tiny_student, progressive_steps=8)
    callback = train.BitatCallback(schedule, teacher=tiny_teacher, calibration_data=[images])
    active = []
    probe = keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: active.append(
            sum(unit.active for unit in binary_units(tiny_student))
        )
    )
    tiny_student.compile(
        train.cosine_adam(1e-3, STEPS),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    tiny_student.fit(
        images, labels, batch_size=32, epochs=2, verbose=0, callbacks=[callback, probe]
    )
    assert active == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]
    assert [r.step for r in callback.stages.entered] == [0, 2, 4, 6]
    # each newly binary unit was calibrated on the student as it then was
    assert len(callback.stages.calibrations) == 4


def test_a_progressive_schedule_needs_the_teacher(tiny_student, images):
    stages = train.Stages(tiny_student, schedule_for(tiny_student, progressive_steps=8))
    with pytest.raises(ValueError, match="Give the teacher"):
        stages.before_step(0)


def test_a_schedule_of_another_model_is_refused(tiny_student):
    with pytest.raises(ValueError, match="other units"):
        train.Stages(tiny_student, train.Schedule(("elsewhere",), 5))


def test_a_loss_that_is_not_finite_stops_the_training(tiny_student, images, labels):
    bad = images.copy()
    bad[40] = np.nan
    with (
        train.Monitor("student", 6) as monitor,
        pytest.raises(train.TrainingError, match="loss became nan at step 1"),
    ):
        train.train(
            train.Distilled(tiny_student),
            endless(bad, labels),
            6,
            train.cosine_adam(1e-3, 6),
            monitor,
        )


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_learning_rate_falls_along_a_cosine_to_zero(warmup):
    rate = train.cosine_adam(0.1, 20, warmup).learning_rate
    schedule = rate if callable(rate) else None
    values = [float(schedule(step)) if schedule else float(rate) for step in range(21)]
    if schedule is not None:
        assert max(values) == pytest.approx(0.1)
        assert values[20] == pytest.approx(0.0, abs=1e-6)
        assert values[warmup] == pytest.approx(0.1)


def test_distillation_from_itself_is_a_loss_of_zero(tiny_teacher, images, labels):
    logits = tiny_teacher(images)
    assert float(train.distill.student_loss(labels, logits, logits, 1.0, 3.0)) == pytest.approx(
        0.0, abs=1e-5
    )
    plain = train.distill.student_loss(labels, logits, None, 0.0, 1.0)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert float(plain) == pytest.approx(float(expected))


def test_training_leaves_the_teacher_alone(tiny_student, tiny_teacher, images, labels):
    before = tiny_teacher.get_weights()
    run("fit", tiny_student, tiny_teacher, images, labels)
    for a, b in zip(before, tiny_teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
