import numpy as np
import pytest

from bitat_tf import graph
from bitat_tf._keras import keras, tf
from bitat_tf.train import copy_float_weights


def branching_model():
    """Two inputs, a shared layer, an operator, two outputs."""
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    shared = keras.layers.Dense(4, name="shared")
    x, y = shared(a), shared(b)
    z = keras.layers.Concatenate(name="join")([x, y]) * 2.0
    return keras.Model([a, b], [keras.layers.Dense(2, name="out")(z), x])


def test_sweep_computes_what_the_model_does(tiny_teacher, images):
    sweep = graph.Sweep(graph.Graph(tiny_teacher), [images[:100], images[100:]])
    outputs = tf.concat(sweep.run_all(), axis=0)
    np.testing.assert_allclose(outputs, tiny_teacher(images), atol=1e-5)


def test_sweep_runs_each_call_once_and_only_what_is_asked_for():
    model = branching_model()
    seen = []
    read = graph.Graph(model)
    sweep = graph.Sweep(
        read, [(tf.ones((2, 3)), tf.zeros((2, 3)))], before=lambda c: seen.append(c.layer.name)
    )
    sweep.compute(read.output_of("shared"))
    assert seen == ["shared"]
    sweep.run_all()
    assert sorted(seen) == sorted(call.layer.name for call in read.calls)


def test_a_call_may_read_one_tensor_twice():
    inputs = keras.Input((3,))
    doubled = keras.layers.Concatenate(name="copies")([inputs, inputs])
    model = keras.Model(inputs, doubled)
    values = tf.constant([[1.0, 2.0, 3.0]])
    for output in (
        graph.Sweep(graph.Graph(model), [values]).run_all()[0],
        graph.rebuild(model, lambda call: None)(values),
    ):
        np.testing.assert_array_equal(output, [[1, 2, 3, 1, 2, 3]])


def test_calls_know_their_shapes():
    read = graph.Graph(branching_model())
    (join,) = (call for call in read.calls if call.layer.name == "join")
    assert join.input_shapes == ((None, 4), (None, 4))
    assert join.output_shapes == ((None, 8),)


def test_sweep_drops_what_nobody_reads_any_more(tiny_teacher, images):
    read = graph.Graph(tiny_teacher)
    sweep = graph.Sweep(read, [images])
    stem = read.output_of("stem_conv")
    sweep.hold(stem)
    sweep.run_all()
    assert sweep.compute(stem)[0].shape[0] == len(images)
    sweep.release(stem)
    with pytest.raises(KeyError):
        sweep.compute(stem)


def test_graph_refuses_a_subclassed_model():
    class Custom(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional or Sequential"):
        graph.Graph(Custom())


def test_rebuild_equals_the_model_and_shares_no_weight_with_it():
    model = branching_model()
    inputs = [tf.random.normal((5, 3)), tf.random.normal((5, 3))]
    before = [np.asarray(y) for y in model(inputs)]
    new = graph.rebuild(model, lambda call: None)
    for a, b in zip(new(inputs), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for weight in new.weights:
        weight.assign(tf.zeros_like(weight))
    for a, b in zip(model(inputs), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len([layer for layer in new.layers if layer.name == "shared"]) == 1


def test_rebuild_exchanges_layers():
    model = branching_model()
    new = graph.rebuild(
        model, lambda call: (lambda x: x * 0.0) if call.layer.name == "out" else None
    )
    out, _ = new([tf.ones((2, 3)), tf.ones((2, 3))])
    assert np.all(out.numpy() == 0)


def test_units_are_bottom_to_top_and_branches_share_one(tiny_student):
    units = graph.binary_units(tiny_student)
    assert [unit.name for unit in units] == [
        "block1_sign3x3",
        "block1_sign1x1",
        "block2_sign3x3",
        "block2_sign1x1",
    ]
    assert [len(unit.convolutions) for unit in units] == [1, 2, 1, 1]


def test_a_student_with_nothing_active_is_its_float_twin(tiny_student, tiny_teacher, images):
    copy_float_weights(tiny_student, tiny_teacher)
    for unit in graph.binary_units(tiny_student):
        assert unit.active
        unit.activate(False)
    np.testing.assert_array_equal(tiny_student(images), tiny_teacher(images))
    graph.binary_units(tiny_student)[0].activate(True)
    assert np.any(tiny_student(images) != tiny_teacher(images))
