"""Replicas and workers make of the same images what one device makes of them.

What differs is the order in which floats are added. Sums over batches (calibration) are float64,
and rounded to float32 where they are kept; sums within a batch (task weights, V's refresh, the
loss) are float32, whose last bit is 6e-8: a dozen layers of those stay below 1e-5. Processes that
share the cores do not always repeat such a sum bit for bit themselves. Where an activation lies
that near to its threshold its sign flips, and moves the mean of its channel by 2 of the at least
500 positions that are summed over, times a learning rate or a moving average's 0.01: 2e-3 of an
array's largest value bounds a few of those. Without synchronised BatchNorms the same three steps
differ by 3e-2, the losses by 3e-3.
"""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cluster
import numpy as np
import pytest

from bitat_tf import config
from bitat_tf.records import from_mapping
from bitat_tf.train import rendezvous, strategy, workers

SCRIPT = Path(__file__).parent / "replicated.py"
ROUNDED, FLIPPED = 1e-5, 2e-3


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Arrays of the three processes, which run at once."""
    folder = tmp_path_factory.mktemp("scale")
    files = [folder / f"{name}.npz" for name in ("mirrored", "worker0", "worker1")]
    commands = [
        [SCRIPT, mode, file]
        for mode, file in zip(("mirrored", "worker", "worker"), files, strict=True)
    ]
    with cluster.started(commands, [{}, *cluster.environments(2)]) as processes:
        for process in processes:
            _, error = process.communicate(timeout=300)
            assert process.returncode == 0, error
    return [dict(np.load(file)) for file in files]


def assert_near(found, wanted, point, tolerance):
    names = [name for name in wanted if name.startswith(point)]
    assert names
    for name in names:
        size = np.max(np.abs(wanted[name]), initial=1e-9)
        distance = np.max(np.abs(found[name] - wanted[name]), initial=0.0) / size
        assert distance <= tolerance, (name, distance)


def part(arrays, who):
    return {k.removeprefix(f"{who}/"): v for k, v in arrays.items() if k.startswith(f"{who}/")}


@pytest.mark.parametrize("trainer", ["fit", "loop"])
def test_mirrored_replicas_do_what_one_does(outcomes, trainer):
    one, two = part(outcomes[0], f"one_{trainer}"), part(outcomes[0], trainer)
    for point in ("calibrated", "tracked", "recomputed", "loss", "accuracy"):
        assert_near(two, one, point, ROUNDED)
    assert_near(two, one, "trained", FLIPPED)


@pytest.mark.parametrize("trainer", ["fit", "loop"])
@pytest.mark.parametrize("worker", [1, 2])
def test_workers_do_what_one_does(outcomes, worker, trainer):
    one, two = part(outcomes[0], f"one_{trainer}"), part(outcomes[worker], trainer)
    assert two["images"] == one["images"] == 96
    for point in ("calibrated", "tracked", "loss", "accuracy"):
        assert_near(two, one, point, ROUNDED)
    for point in ("recomputed", "trained"):
        assert_near(two, one, point, FLIPPED)


@pytest.mark.parametrize("trainer", ["fit", "loop"])
def test_workers_agree_bit_for_bit(outcomes, trainer):
    first, second = (part(arrays, trainer) for arrays in outcomes[1:])
    assert_near(second, first, "", 0)


def test_fit_and_loop_are_the_same_under_a_strategy(outcomes):
    for arrays in outcomes:
        fit, loop = part(arrays, "fit"), part(arrays, "loop")
        assert_near(loop, fit, "trained", ROUNDED)


def test_workers_tell_each_other(outcomes):
    for arrays in outcomes[1:]:
        assert bytes(arrays["said/chief"]) == b"chief's"
        assert arrays["said/any"]
        assert not arrays["said/none"]


def test_shares_are_disjoint_and_whole():
    team = [workers.Workers(index, 3) for index in range(3)]
    assert sorted(item for one in team for item in one.mine(range(8))) == list(range(8))
    rows = [row for one in team for row in range(8)[one.rows(8)]]
    assert rows == list(range(8))
    assert [one.chief for one in team] == [True, False, False]
    assert workers.current() == workers.of(None) == workers.Workers(0, 1)


TASK = {"type": "worker", "index": 0}
TWO = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not set"),
        ("{", "not valid JSON"),
        (json.dumps({"cluster": TWO}), "needs `cluster` and `task`"),
        (json.dumps({"cluster": {**TWO, "ps": ["c:1"]}, "task": TASK}), "holds ['ps']"),
        (json.dumps({"cluster": TWO, "task": {**TASK, "index": 2}}), "worker 2 of 2"),
        (json.dumps({"cluster": TWO, "task": {**TASK, "type": "chief"}}), "not in its cluster"),
        (json.dumps({"cluster": {"worker": ["a"]}, "task": TASK}), "host:port"),
        (json.dumps({"cluster": {"worker": ["a:1", "a:1"]}, "task": TASK}), "one address twice"),
    ],
)
def test_a_wrong_tf_config_is_refused_in_one_line(text, words):
    with pytest.raises(ValueError, match="TF_CONFIG") as caught:
        strategy.check_cluster(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chief_and_workers_are_a_cluster():
    values = {"cluster": {"chief": ["c:1"], **TWO}, "task": {"type": "worker", "index": 1}}
    assert strategy.check_cluster(json.dumps(values)) == (["c:1", "a:1", "b:1"], "b:1")


def test_without_a_tpu_there_is_a_clear_error():
    with pytest.raises(ValueError, match="no TPU was found") as caught:
        strategy.build("tpu")
    assert "\n" not in str(caught.value)


def test_no_strategy_changes_nothing():
    assert strategy.build("none") is None
    with strategy.scope(None):
        assert workers.total(1, 2) == [1, 2]
    assert strategy.batches(None, "data", 3) == "data"


def test_batches_that_cannot_be_shared_are_refused():
    class Replicas:
        num_replicas_in_sync = 4

    recipe = from_mapping(config.Recipe, {"name": "x", "student": {"batch_size": 100}})
    with pytest.raises(ValueError, match=r"teacher\.batch_size` .*multiple of 12") as caught:
        strategy.check_fits(
            from_mapping(config.Recipe, {"name": "x", "scale": {"accumulate": 3}}), Replicas()
        )
    assert "4 replicas, each in 3 parts" in str(caught.value)
    strategy.check_fits(recipe, Replicas())


def test_workers_that_do_not_come_end_the_wait():
    own, other = (f"127.0.0.1:{port}" for port in cluster.free_ports(2))
    started = time.monotonic()
    with pytest.raises(rendezvous.LostWorker, match=f"do not answer after 0 s: {other}"):
        rendezvous.wait_for([own, other], own, 0.3)
    assert time.monotonic() - started < 10


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_workers_may_have_ipv6_addresses():
    addresses = [f"[::1]:{port}" for port in cluster.free_ports(2)]
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(rendezvous.wait_for, addresses, own, 20.0) for own in addresses]
        # The second's door closes behind it, where TensorFlow's server would open.
        assert any(wait.exception() is None for wait in waits)


def test_a_port_that_is_taken_is_named():
    (port,) = cluster.free_ports(1)
    with (
        socket.create_server(("", port)),
        pytest.raises(RuntimeError, match=f"port of localhost:{port} .* in use"),
    ):
        rendezvous.wait_for([f"localhost:{port}"], f"localhost:{port}", 1.0)


def test_one_line_says_why_a_worker_was_lost():
    assert rendezvous._short("x Collective ops is aborted by: y Additional GRPC z") == "y"
