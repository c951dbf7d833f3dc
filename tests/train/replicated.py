"""A small network calibrated and trained on one device, replicas or workers: a process of its own.

    python tests/train/replicated.py mirrored FILE    one device, then two replicas
    python tests/train/replicated.py worker FILE      as the worker that TF_CONFIG names

TensorFlow's devices and servers are chosen once in a process, so tests start these. FILE takes
arrays by name.
"""

import sys

import numpy as np

import bitat_tf
from bitat_tf import config, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.train import strategy, workers

BATCH, STEPS = 32, 3
NETWORK = {
    "classes": 4,
    "input_size": 8,
    "input_channels": 1,
    "stem_channels": 8,
    "blocks": ((2, 2),),
}


def images_and_labels():
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(96, 4, 4, 1))
    fine = np.kron(coarse, np.ones((1, 2, 2, 1))) + 0.3 * rng.normal(size=(96, 8, 8, 1))
    return fine.astype("float32"), rng.integers(0, 4, 96).astype("int32")


def networks():
    teacher, student = (
        models.build("mobilenet_v1_react_nano", **NETWORK, binary=binary)
        for binary in (False, True)
    )
    rng = np.random.default_rng(0)
    for layer in teacher.layers:
        values = [w + 0.1 * rng.normal(size=w.shape) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            values[3] = np.abs(values[3]) + 0.1  # a variance
        layer.set_weights(values)
    return teacher, student


def outcome(made, trainer="fit", scale=None):
    """What comes of it at every point, by name."""
    keras.utils.set_random_seed(0)
    images, labels = images_and_labels()
    batches = [(images[at : at + 24], labels[at : at + 24]) for at in range(0, 96, 24)]
    found = {}

    def take(point, model):
        """All weights but V: eigenvectors turn far where importances lie close together."""
        for weight in model.weights:
            if "vectors" not in weight.name:
                found[f"{point}/{weight.name}"] = weight.numpy().astype("float64")

    with strategy.scope(made):
        teacher, student = networks()
        calibration = config.CalibrationConfig(task_weights=True, margin=0.1)
        result = train.calibrate(student, teacher, batches, config=calibration)
        found["images"] = np.array(result.images)
        take("calibrated", student)
        train.Tracking(student, batches, 1).before_step(0)
        for unit in binary_units(student):
            for layer in unit.convolutions:
                name = f"tracked/{layer.name}"
                found[name] = layer.transform.correlation.numpy().astype("float64")
        train.recompute_batchnorm(student, batches, 4)
        take("recomputed", student)
        # SGD's steps are as large as the gradients; the first of Adam's has their signs alone.
        optimizer = keras.optimizers.SGD(1e-2)
        model = train.Distilled(
            student, teacher, 0.5, 2.0, quantization_loss=0.1, feature_weight=0.1, scale=scale
        )
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH).repeat()
        with train.Monitor("test", STEPS, log_steps=1) as monitor:
            train.train(
                model,
                strategy.batches(made, data, BATCH),
                STEPS,
                optimizer,
                monitor,
                trainer=trainer,
            )
        take("trained", student)
        found["loss"] = np.array([point.loss for point in monitor.points])
        found["accuracy"] = np.array([point.accuracy for point in monitor.points])
    return found


def save(path, **outcomes):
    arrays = {f"{who}/{name}": v for who, found in outcomes.items() for name, v in found.items()}
    np.savez(path, **arrays)


if __name__ == "__main__":
    mode, path = sys.argv[1:]
    if mode == "mirrored":
        strategy.virtual_cpus(2)
        mirrored = strategy.build("mirrored")
        one = {trainer: outcome(None, trainer) for trainer in ("fit", "loop")}
        two = {trainer: outcome(mirrored, trainer) for trainer in ("fit", "loop")}
        save(path, one_fit=one["fit"], one_loop=one["loop"], fit=two["fit"], loop=two["loop"])
    else:
        multiworker = strategy.build("multiworker", 60.0)
        with strategy.scope(multiworker):
            said = {
                "chief": np.frombuffer(workers.of_chief(b"chief's"), np.uint8),
                "any": np.array(workers.any_of(workers.current().index == 1)),
                "none": np.array(workers.any_of(False)),
            }
        save(path, fit=outcome(multiworker), loop=outcome(multiworker, "loop"), said=said)
    assert bitat_tf.__version__
