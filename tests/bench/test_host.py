import itertools
import os

import pytest

from bitat_tf._keras import keras
from bitat_tf.bench import host
from bitat_tf.convert import export, export_float
from bitat_tf.layers import BitatConv2D, RSign

layers = keras.layers


@pytest.fixture(scope="module")
def flatbuffers():
    inputs = keras.Input((16, 16, 32))
    binary = keras.Model(inputs, BitatConv2D(32, 3)(RSign()(inputs)))
    dense = keras.Model(inputs, layers.Conv2D(32, 3, padding="same")(inputs))
    return {"binary": export(binary), "float": export_float(dense)}


def test_record_tells_what_was_measured(flatbuffers):
    record = host.measure(flatbuffers["binary"], name="tiny", warmup=0, repeats=7, threads=2)
    assert (record.model, record.repeats, record.threads) == ("tiny", 7, 2)
    assert record.device.startswith("host: ")
    assert len(record.device) > len("host: ")
    assert 0 < record.p10_ms <= record.median_ms <= record.p90_ms


def test_compared_models_keep_their_order_and_runtimes(flatbuffers):
    records = host.compare(flatbuffers, warmup=1, repeats=5)
    assert [record.model for record in records] == ["binary", "float"]
    assert [record.repeats for record in records] == [5, 5]
    assert "LCE" in records[0].runtime
    assert "TFLite" in records[1].runtime


def test_models_run_in_turn_and_the_first_of_a_turn_is_not_counted(flatbuffers, monkeypatch):
    order = []

    class Recorded(host.Stopwatch):
        def run(self, count, index=0):
            order.append((self, count))
            return super().run(count, index)

    monkeypatch.setattr(host, "Stopwatch", Recorded)
    records = host.compare(flatbuffers, warmup=2, repeats=7)
    assert [count for _, count in order] == [2, 2, 6, 6, 3, 3]
    assert all(a is not b for (a, _), (b, _) in itertools.pairwise(order))
    assert [record.repeats for record in records] == [7, 7]


def test_quantiles_are_those_of_the_counted_runs(flatbuffers, monkeypatch):
    class Counted(host.Stopwatch):
        done = 0.0

        def run(self, count, index=0):
            times = [1000.0] * count  # what is not counted would stand out
            for place in range(1, count):
                self.done += 1
                times[place] = self.done
            return times

    monkeypatch.setattr(host, "Stopwatch", Counted)
    record = host.measure(flatbuffers["binary"], warmup=0, repeats=11)
    assert (record.p10_ms, record.median_ms, record.p90_ms) == pytest.approx((2.0, 6.0, 10.0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are bound on Linux only")
def test_processes_share_one_core_and_tell_their_memory(flatbuffers):
    records = host.compare(flatbuffers, warmup=0, repeats=1)
    (core,) = {record.cores for record in records}
    assert int(core) in os.sched_getaffinity(0)
    # An interpreter and a network of 40 KB: far less than what TensorFlow takes.
    assert all(0 < record.memory_mb < 100 for record in records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeats": 0}, "`repeats` must be an integer of at least 1. Received: 0"),
        ({"warmup": -1}, "`warmup` must be an integer of at least 0. Received: -1"),
        ({"threads": 0}, "`threads` must be an integer of at least 1. Received: 0"),
        ({"repeats": 2.5}, "`repeats` must be an integer"),
    ],
)
def test_numbers_out_of_range_are_refused(flatbuffers, arguments, message):
    with pytest.raises(ValueError, match=message):
        host.measure(flatbuffers["binary"], **arguments)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        host.compare({})


def test_truncated_flatbuffer_is_refused(flatbuffers):
    with pytest.raises(ValueError, match="truncated or corrupt"):
        host.measure(flatbuffers["binary"][:-100])
