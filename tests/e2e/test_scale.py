"""`bitat train --strategy`: the acceptance of training on replicas and on workers.

What "the same weights" can mean: floats are added in another order, which differs in their last
bits, and training amplifies that, because now and then a sign of an activation flips that lay at
its threshold. The yardstick is therefore one device against itself, once with the fused kernels
of its BatchNorms and once with the sums that replicas can share: both are float32, neither is more
right, the first step's gradients differ by 1e-5 to 1e-4 between them. (Images that differ in their
last bit are no yardstick: the first sign absorbs that.) Replicas may not be further from one
device than twice the yardstick, for both distances are draws of the same chaos. At the learning
rate 1e-4, chosen so that 200 steps do not yet drown everything in it, the yardstick was 0.042 of
the weights' norm, mirrored and multiworker runs 0.043 and 0.044. Of the 450 test images each two
of these networks name some 20 differently, either of them right as often as the other: their hits
differ by the root of 20, 4.5, as one standard deviation. Three are 3 points of accuracy. Single
steps are held far tighter, in `tests/train/test_replicas.py`.
"""

import shutil
import signal
import time

import cluster
import numpy as np
import pytest

import bitat_tf as bitat
from bitat_tf import phases, report, run_directory, train
from bitat_tf._keras import keras
from bitat_tf.cli import main
from bitat_tf.experiment import Run
from bitat_tf.loading import load_keras_model
from bitat_tf.recipe_files import load_recipe
from bitat_tf.train import replicas

STEPS = 200
SETTINGS = (
    "teacher.epochs=3",
    f"student.steps={STEPS}",
    "student.learning_rate=1e-4",
    "student.log_steps=100",
    "checkpoint.steps=50",
    "checkpoint.seconds=0",
)
# A training of two replicas, as a program: virtual devices are chosen before TensorFlow starts.
MIRRORED = """
import sys
from bitat_tf.cli import main
from bitat_tf.train import strategy
strategy.virtual_cpus(2)
sys.exit(main(sys.argv[1:]))
"""
LOST_SECONDS = 60
ACCURACY = 0.03


def command(out, strategy, *more):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    options = ["--out", str(out), "--resume", "--strategy", strategy]
    return ["train", "digits-demo", *settings, *options, *more]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run with its teacher, from which all others go on."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    run = Run.create(folder, load_recipe("digits-demo", SETTINGS))
    phases.train_teacher(run)
    return folder


@pytest.fixture(scope="module")
def one(begun):
    """The run on one device."""
    out = shutil.copytree(begun, begun.parent / "one")
    assert main(command(out, "none")) == 0
    return out


@pytest.fixture(scope="module")
def two_workers(begun):
    """The run on two workers, never interrupted."""
    out = shutil.copytree(begun, begun.parent / "two")
    with workers(out) as processes:
        for process in processes:
            _, error = process.communicate(timeout=500)
            assert process.returncode == 0, error
    return out


def workers(out):
    commands = [["-m", "bitat_tf", *command(out, "multiworker")]] * 2
    # A killed worker leaves its private copy.
    private = {"TMPDIR": str(out.parent)}
    return cluster.started(commands, [{**private, **e} for e in cluster.environments(2)])


def weights(folder, name="student"):
    return [np.asarray(w, float) for w in load_keras_model(folder / f"{name}.keras").get_weights()]


def distance(one, other):
    """Norm of the difference of all weights over the norm of all weights."""
    pairs = list(zip(weights(one), weights(other), strict=True))
    apart = sum(((a - b) ** 2).sum() for a, b in pairs)
    return (apart / sum((a**2).sum() for a, _ in pairs)) ** 0.5


def assert_one_training(one, other, yardstick):
    for a, b in zip(weights(one, "calibrated"), weights(other, "calibrated"), strict=True):
        # Sums of float64 in another order; weights are float32.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    first, second = (
        bitat.binary_kernels(load_keras_model(folder / "calibrated.keras"))
        for folder in (one, other)
    )
    for name, kernel in first.items():
        np.testing.assert_array_equal(kernel, second[name])
    assert distance(one, other) <= 2 * yardstick
    scores = [report.load(folder).scores for folder in (one, other)]
    for a, b in zip(*scores, strict=True):
        assert abs(a.test_accuracy - b.test_accuracy) <= ACCURACY


@pytest.fixture(scope="module")
def yardstick(begun, one):
    """How far one device is from itself, with BatchNorms that add up as those of replicas do."""
    out = shutil.copytree(begun, begun.parent / "unfused")

    def unfuse(model):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.fused = False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicas, "synchronize", unfuse)
        assert main(command(out, "none")) == 0
    found = distance(one, out)
    assert 0 < found < 0.1  # else it would measure nothing
    return found


@pytest.mark.slow
def test_mirrored_replicas_train_what_one_device_trains(begun, one, yardstick):
    out = shutil.copytree(begun, begun.parent / "mirrored")
    with cluster.started([["-c", MIRRORED, *command(out, "mirrored")]], [{}]) as (process,):
        _, error = process.communicate(timeout=500)
        assert process.returncode == 0, error
    assert_one_training(one, out, yardstick)


@pytest.mark.slow
def test_two_workers_train_what_one_device_trains(one, two_workers, yardstick):
    assert_one_training(one, two_workers, yardstick)


@pytest.mark.slow
def test_a_worker_that_is_lost_ends_the_other_and_both_resume(
    begun, two_workers, yardstick, tmp_path
):
    out = shutil.copytree(begun, tmp_path / "run")
    states = run_directory.states_path(out, "student")
    # A stopped one, as in a machine that hangs, is noticed by the heartbeats that it misses.
    lost = ((1, 50, signal.SIGKILL), (0, 100, signal.SIGKILL), (1, 150, signal.SIGSTOP))
    for killed, steps, how in lost:
        with workers(out) as processes:
            wait_for_step(states, steps, processes)
            processes[killed].send_signal(how)
            at = time.monotonic()
            _, error = processes[1 - killed].communicate(timeout=LOST_SECONDS)
            assert time.monotonic() - at < LOST_SECONDS
            assert processes[1 - killed].returncode == 1
        last = error.strip().splitlines()[-1]
        assert last.startswith(f"bitat: Worker {1 - killed} of 2 lost another one")
        assert "start all workers again with --resume" in last
        assert "Traceback" not in error
    with workers(out) as processes:
        errors = [process.communicate(timeout=500)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
    assert "goes on after step 1" in errors[0]
    # Processes that share cores do not repeat every float32 sum bit for bit.
    assert distance(two_workers, out) <= 2 * yardstick


def wait_for_step(states, step, processes):
    until = time.monotonic() + 300
    while not any(int(p.rpartition("-")[2]) >= step for p in train.kept(states)):
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_sigterm_at_one_worker_keeps_the_step_at_both(begun, tmp_path):
    out = shutil.copytree(begun, tmp_path / "run")
    states = run_directory.states_path(out, "student")
    with workers(out) as processes:
        wait_for_step(states, 50, processes)
        processes[1].send_signal(signal.SIGTERM)
        errors = [process.communicate(timeout=LOST_SECONDS)[1] for process in processes]
        assert [process.returncode for process in processes] == [143, 143], errors
    step = train.kept(states)[-1].rpartition("-")[2]
    for error in errors:
        assert f"bitat: stopped by SIGTERM after step {step}, which is kept" in error


def test_a_cluster_that_is_not_described_leaves_no_output(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert main(command(tmp_path / "run", "multiworker")) == 2
    error = capsys.readouterr().err.strip()
    assert "TF_CONFIG is not set" in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_batches_that_cannot_be_divided_leave_no_output(capsys, tmp_path):
    arguments = command(tmp_path / "run", "none", "--set", "scale.accumulate=3")
    assert main(arguments) == 2
    assert "batch_size` must be a multiple of 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
