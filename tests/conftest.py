"""Small shared networks and data; nothing here depends on the network or the clock."""

import numpy as np
import pytest

import bitat_tf  # first: it chooses Keras 2 before anything touches tf.keras
from bitat_tf import models
from bitat_tf._keras import keras, tf

# A stem, a block that doubles its channels at stride 2, and one that keeps them: every kind of
# connection the backbone has, in a network that traces in a second.
TINY = {
    "classes": 4,
    "input_size": 8,
    "input_channels": 1,
    "stem_channels": 8,
    "blocks": ((2, 2), (2, 1)),
}


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _backbones_as_shipped(monkeypatch):
    """What a test registers is gone after it: no test depends on which ran before."""
    monkeypatch.setattr(models, "_BUILDERS", dict(models._BUILDERS))


@pytest.fixture
def tiny_options():
    """What `tiny_student` and `tiny_teacher` are built with."""
    return dict(TINY)


@pytest.fixture
def tiny_student():
    return models.build("mobilenet_v1_react_nano", **TINY)


@pytest.fixture
def tiny_teacher():
    """A float twin with weights as after training: nothing is at its initial value."""
    teacher = models.build("mobilenet_v1_react_nano", **TINY, binary=False)
    rng = np.random.default_rng(0)
    for layer in teacher.layers:
        values = [w + 0.1 * rng.normal(size=w.shape) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            values[3] = np.abs(values[3]) + 0.1  # a variance
        layer.set_weights(values)
    return teacher


@pytest.fixture
def images():
    """192 images that vary smoothly, as images do, so that layers have something to explain."""
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(192, 4, 4, 1))
    fine = np.kron(coarse, np.ones((1, 2, 2, 1))) + 0.3 * rng.normal(size=(192, 8, 8, 1))
    return fine.astype("float32")


@pytest.fixture
def labels():
    return np.random.default_rng(2).integers(0, 4, 192).astype("int32")


@pytest.fixture
def read_events():
    """Reads TensorBoard's event files in a folder: tag -> [(step, array)], in order of writing."""

    def read(folder):
        found = {}
        for path in sorted(folder.glob("events*")):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                for value in event.summary.value:
                    array = tf.make_ndarray(value.tensor)
                    found.setdefault(value.tag, []).append((event.step, array))
        return found

    return read


assert bitat_tf.__version__
