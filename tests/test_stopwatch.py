"""The timing child: what it answers, and how it ends."""

import os
import signal

import pytest

from bitat_tf._keras import keras
from bitat_tf.convert import export_float
from bitat_tf.runtime import Stopwatch, spare_cores


@pytest.fixture(scope="module")
def flatbuffer():
    inputs = keras.Input((4, 4, 1))
    return export_float(keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)))


def test_it_times_as_often_as_asked_on_its_core(flatbuffer):
    cores = spare_cores(1)
    with Stopwatch("tflite", cores=cores) as stopwatch:
        stopwatch.load(flatbuffer)
        times = stopwatch.run(4)
        assert len(times) == 4
        assert min(times) > 0
        if cores:
            assert os.sched_getaffinity(stopwatch.process_id) == set(cores)
    assert not os.path.exists(f"/proc/{stopwatch.process_id}")  # it has ended


def test_what_the_interpreter_refuses_is_told(flatbuffer):
    with Stopwatch("lce") as stopwatch:
        with pytest.raises(ValueError, match="The interpreter refuses the flatbuffer"):
            stopwatch.load(b"TFL3 and no more")
        stopwatch.load(flatbuffer)  # and it goes on
        assert len(stopwatch.run(1)) == 1


def test_a_child_that_ends_is_told(flatbuffer):
    with Stopwatch("tflite") as stopwatch:
        stopwatch.load(flatbuffer)
        os.kill(stopwatch.process_id, signal.SIGKILL)
        with pytest.raises(ValueError, match="The interpreter ended: SIGKILL"):
            stopwatch.run(1)


def test_more_threads_than_cores_are_not_bound():
    assert spare_cores(10_000) == ()
