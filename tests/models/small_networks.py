"""A small network of every family, and the same calibrated and trained for one step."""

import dataclasses
from typing import Any

import numpy as np

from bitat_tf import calibrate, models
from bitat_tf._keras import keras
from bitat_tf.layers import BitatConv2D

# Every kind of block and shortcut that the family has, in networks that trace in seconds.
TINY = {
    "mobilenet_v1_react": {"stem_channels": 8, "blocks": ((2, 2), (2, 1))},
    "mobilenet_v2": {
        "stem_channels": 8,
        "stages": ((1, 16, 1, 1), (3, 16, 2, 2)),
        "head_expansion": 2,
    },
    "quicknet": {"sections": ((8, 1), (16, 2))},
    "resnet18": {"stem_channels": 8, "stages": ((1, 1), (2, 2))},
    "resnet20": {"stem_channels": 8, "stages": ((1, 1), (2, 1))},
}
SHARED = {"classes": 4, "input_size": 32, "channel_divisor": 8}


def tiny(name, **changes):
    return models.build(name, **{**SHARED, **TINY[name], **changes})


def binary_names(model):
    return [layer.name for layer in model.layers if isinstance(layer, BitatConv2D)]


def latent_kernels(model):
    return {n: model.get_layer(n).kernel.latent_variable.numpy() for n in binary_names(model)}


@dataclasses.dataclass(frozen=True)
class Trained:
    """What became of one family's small network.

    Attributes:
        name: of the family.
        teacher, student: the float twin; calibrated, then trained for one step.
        calibration: its record.
        kernels: latent kernels of the student before that step.
        loss: of that step.
        images: (32, 32, 32, 3), which it was calibrated on.
    """

    name: str
    teacher: Any
    student: Any
    calibration: Any
    kernels: dict[str, np.ndarray]
    loss: float
    images: np.ndarray


def train(name):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    teacher = tiny(name, binary=False)
    for layer in teacher.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [w + 0.2 * rng.normal(size=w.shape) for w in layer.get_weights()]
            layer.set_weights([*values[:3], np.abs(values[3]) + 0.1])  # the last is a variance
    student = tiny(name)
    # Smooth, as images are, so that layers have something to explain.
    coarse = rng.normal(size=(32, 8, 8, 3))
    fine = np.kron(coarse, np.ones((1, 4, 4, 1))) + 0.3 * rng.normal(size=(32, 32, 32, 3))
    images = fine.astype(np.float32)
    result = calibrate(student, teacher, [images[:16], images[16:]])
    kernels = latent_kernels(student)
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = student.fit(images[:16], np.arange(16) % 4, batch_size=16, verbose=0)
    (loss,) = history.history["loss"]
    return Trained(name, teacher, student, result, kernels, loss, images)
