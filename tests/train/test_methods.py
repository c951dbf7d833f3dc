"""Every method: one registration, the same training by fit and loop, and a 1-bit flatbuffer."""

import typing

import numpy as np
import pytest

from bitat_tf import config, convert, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.train.distill import kernel_energy
from bitat_tf.train.methods import Phase, PhasedDecay, layer_by_layer

STEPS = 6
BASELINES = [name for name, method in train.METHODS.items() if not method.calibrated]


def start(name, teacher, options):
    student = models.build("mobilenet_v1_react_nano", **options, **train.method(name).layer_options)
    train.copy_float_weights(student, teacher)
    return student


def run(trainer, name, teacher, options, images, labels):
    keras.utils.set_random_seed(0)
    student = start(name, teacher, options)
    method = train.method(name)
    annealing = train.Annealing(student, method, STEPS)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    with train.Monitor("test", STEPS, log_steps=2) as monitor:
        train.train(
            train.Distilled(student, teacher, 0.5, 2.0, annealing.weight_decay),
            data,
            STEPS,
            method.optimizer(1e-2, STEPS),
            monitor,
            stages=annealing,
            trainer=trainer,
        )
    return student, annealing.entered, monitor.points


def test_the_registry_and_the_recipes_know_the_same_methods():
    assert tuple(train.METHODS) == typing.get_args(config.MethodName)
    assert config.StudentConfig().method == "bitat"
    with pytest.raises(ValueError, match="`method` must be one of bitat, ste"):
        train.method("nothing")


@pytest.mark.parametrize("name", BASELINES)
def test_fit_and_loop_train_to_the_same_weights_and_convert(
    name, tiny_teacher, tiny_options, images, labels, tmp_path
):
    fit, loop = (run(t, name, tiny_teacher, tiny_options, images, labels) for t in ("fit", "loop"))
    assert fit[1:] == loop[1:]
    for a, b in zip(fit[0].get_weights(), loop[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    student = fit[0]
    assert all(unit.binary for unit in binary_units(student))
    train.recompute_batchnorm(student, [images])
    expected = student(images, training=False).numpy()
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    # strip: the same outputs to the last bit, also after a round trip through a file
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras", compile=False)
    plain = convert.strip(loaded)
    np.testing.assert_array_equal(plain(images, training=False).numpy(), expected)
    # export refuses by itself what is not LceBconv2d or holds other signs
    flatbuffer = convert.export(student, fold=False)
    convolutions = sum(len(unit.convolutions) for unit in binary_units(student))
    assert convert.audit(flatbuffer).binary_convolutions == convolutions == 5
    assert convert.check_parity(student, flatbuffer, images, min_agreement=0.97).passed


@pytest.mark.parametrize("name", ["react-two-step", "adambnn"])
def test_two_steps_have_float_kernels_first(name, tiny_teacher, tiny_options):
    student = start(name, tiny_teacher, tiny_options)
    annealing = train.Annealing(student, train.method(name), STEPS)
    kernel = student.get_layer("block1_conv3x3")
    quantized, decays = [], []
    for step in range(STEPS):
        annealing.before_step(step)
        assert all(unit.sign.active for unit in binary_units(student))
        values = kernel.kernel_quantizer(kernel.kernel.latent_variable).numpy()
        quantized.append(len(np.unique(np.abs(values))) <= values.shape[-1])
        decays.append(float(annealing.weight_decay))
        if step == 0:
            with pytest.raises(ValueError, match="`progress` at 1"):
                convert.strip(student)
    assert quantized == [False] * 3 + [True] * 3
    first = pytest.approx({"react-two-step": 1e-5, "adambnn": 5e-6}[name])
    assert decays == [first] * 3 + [0.0] * 3
    assert [r.binary_units for r in annealing.entered] == [0, 4]


def test_stompp_goes_from_input_to_output(tiny_teacher, tiny_options, images):
    student = start("stompp", tiny_teacher, tiny_options)
    annealing = train.Annealing(student, train.method("stompp"), 40)
    units = binary_units(student)
    before = np.zeros(len(units))
    for step in range(40):
        annealing.before_step(step)
        progress = [float(u.annealed[0].progress) if u.active else 0.0 for u in units]
        assert progress == sorted(progress, reverse=True)  # never a unit before one below it
        assert np.all(progress >= before)
        before = np.array(progress)
    assert progress == [1.0] * len(units)
    assert [r.binary_units for r in annealing.entered] == [0, 1, 2, 3, 4]


def test_masking_is_the_float_twin_before_it_begins(tiny_teacher, tiny_options, images):
    student = start("stompp", tiny_teacher, tiny_options)
    for unit in binary_units(student):
        unit.activate(False)
    np.testing.assert_allclose(
        student(images, training=False), tiny_teacher(images, training=False), atol=1e-4
    )


def test_layer_by_layer_ends_binary_before_the_training_does():
    shares = np.linspace(0.01, 1, 100)
    table = np.array([[layer_by_layer(s, p, 5) for p in range(5)] for s in shares])
    assert table.min() == 0
    assert np.all(table[shares > 0.9001] == 1)
    assert np.all((table > 0).sum(1)[shares < 0.9] <= 5)
    assert np.all(((table > 0) & (table < 1)).sum(1) <= 1)  # one unit at a time


def test_another_methods_student_is_refused(tiny_student):
    with pytest.raises(ValueError, match=r"'block1_sign3x3' has another quantizer.*irnet"):
        train.Annealing(tiny_student, train.method("irnet"), 5)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_learning_rate_falls_to_zero_in_each_phase(decay):
    rate = PhasedDecay(0.1, (10, 30), decay)
    values = np.array([float(rate(step)) for step in range(31)])
    assert values[[0, 10]] == pytest.approx(0.1)
    assert values[[5, 20]] == pytest.approx(0.05)
    assert np.all(np.diff(values[:10]) < 0)
    assert np.all(np.diff(values[10:31]) < 0)
    assert values[30] == 0
    twin = PhasedDecay.from_config(rate.get_config())
    assert float(twin(7)) == float(rate(7))


def test_phases_must_end_at_one():
    with pytest.raises(ValueError, match="`phases` must be in ascending order"):
        train.Method("x", "", "", phases=(Phase(0.5), Phase(0.4)))


def test_weight_decay_pulls_kernels_alone(tiny_student):
    with tf.GradientTape() as tape:
        energy = kernel_energy(tiny_student)
    gradients = tape.gradient(energy, tiny_student.trainable_variables)
    for variable, slope in zip(tiny_student.trainable_variables, gradients, strict=True):
        if len(variable.shape) == 4:
            np.testing.assert_allclose(slope, tf.convert_to_tensor(variable), rtol=1e-6)
        else:
            assert slope is None


def test_only_bitat_is_progressive():
    with pytest.raises(ValueError, match=r"`student.progressive_steps` must be 0 with"):
        config.StudentConfig(method="ste", progressive_steps=10)
