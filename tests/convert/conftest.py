"""One small student with untamed statistics, and what is made of it, for all conversion tests."""

import numpy as np
import pytest

from bitat_tf import convert, models
from bitat_tf._keras import keras
from bitat_tf.layers import RPReLU, RSign

ARCHITECTURE = {"classes": 4, "input_size": 16, "blocks": ((2, 2), (2, 1))}


def randomize(model, seed):
    """Statistics as training may leave them: negative gammas, shifts off zero."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            gamma = rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)
            rest = rng.normal(size=size), rng.normal(size=size), rng.uniform(0.5, 2, size)
            layer.set_weights([gamma, *rest])
        elif isinstance(layer, RSign | RPReLU):
            for weight in layer.trainable_weights:
                weight.assign(rng.normal(scale=0.3, size=weight.shape))
    return model


@pytest.fixture(scope="session")
def student(images):
    keras.utils.set_random_seed(0)
    model = randomize(models.build("mobilenet_v1_react_nano", **ARCHITECTURE), seed=0)
    # Unlike a trained one, it has the same large offsets for all images; without them, images
    # fall into different classes.
    head = model.get_layer("logits")
    head.bias.assign(-np.mean(model(images, training=False), axis=0))
    return model


@pytest.fixture(scope="session")
def twin():
    keras.utils.set_random_seed(1)
    return randomize(models.build("mobilenet_v1_react_nano", binary=False, **ARCHITECTURE), seed=1)


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(2).normal(size=(64, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def flatbuffer(student):
    return convert.export(student)


@pytest.fixture(scope="session")
def float_flatbuffer(twin):
    return convert.export_float(twin)
