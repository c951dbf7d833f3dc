import itertools

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


def test_models_run_in_turn_and_warm_up_is_not_counted(flatbuffers, monkeypatch):
    order = []

    class Recorded(host.Runner):
        def invoke(self, image):
            order.append(self)
            return super().invoke(image)

    monkeypatch.setattr(host, "Runner", Recorded)
    records = host.compare(flatbuffers, warmup=2, repeats=3)
    assert len(order) == 2 * (2 + 3)
    assert all(a is not b for a, b in itertools.pairwise(order))
    assert [record.repeats for record in records] == [3, 3]


def test_quantiles_are_those_of_the_counted_runs(flatbuffers, monkeypatch):
    ticks = iter([0, 100_000_000] + [v for n in range(1, 12) for v in (0, n * 1_000_000)])
    monkeypatch.setattr(host.time, "perf_counter_ns", lambda: next(ticks))
    record = host.measure(flatbuffers["binary"], warmup=1, repeats=11)
    assert (record.p10_ms, record.median_ms, record.p90_ms) == pytest.approx((2.0, 6.0, 10.0))


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
