import json
from pathlib import Path

import numpy as np
import pytest

from bitat_tf import count, graph, models
from bitat_tf._keras import keras
from bitat_tf.loading import load_keras_model

TEACHERS = Path(__file__).parents[2] / "docs" / "results" / "teachers"


def test_the_nano_net_has_15_binary_convolutions_and_5_6_million_macs():
    counts = count(models.build("mobilenet_v1_react_nano"))
    assert sum(layer.binary for layer in counts.layers) == 15
    assert counts.binary_macs == pytest.approx(5.6e6, rel=0.01)


def test_trained_teachers_still_belong_to_the_builder():
    # The students of docs/results start from these files' weights, matched by layer name.
    name = "mobilenet_v1_react_nano"
    trained = [
        record.with_suffix(".keras")
        for record in sorted(TEACHERS.glob("cifar10-*.json"))
        if json.loads(record.read_text())["recipe"]["model"]["name"] == name
    ]
    assert trained
    kept = load_keras_model(trained[0])
    built = models.build(name, binary=False)
    assert [layer.name for layer in built.layers] == [layer.name for layer in kept.layers]
    for new, old in zip(built.layers, kept.layers, strict=True):
        assert [w.shape for w in new.get_weights()] == [w.shape for w in old.get_weights()]
    built.set_weights(kept.get_weights())
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(built(images), kept(images))


@pytest.mark.parametrize("size", [32, 224])
def test_the_twin_has_the_same_layers_less_the_signs(size):
    arguments = {"classes": 10, "width": 0.25, "input_size": size}
    student = models.build("mobilenet_v1_react", **arguments)
    teacher = models.build("mobilenet_v1_react", **arguments, binary=False)
    signs = {unit.name for unit in graph.binary_units(student)}
    own = {layer.name for layer in student.layers}
    assert own - {layer.name for layer in teacher.layers} == signs
    assert student.output_shape == teacher.output_shape == (None, 10)


def test_save_and_load_give_equal_outputs(tiny_student, images, tmp_path):
    tiny_student.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(loaded(images), tiny_student(images))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_1000", {}, "Known: mobilenet_v1_react"),
        ("mobilenet_v1_react", {"classes": 3, "wdith": 1}, "unexpected keyword argument 'wdith'"),
        ("mobilenet_v1_react", {}, "classes"),
        (
            "mobilenet_v1_react_nano",
            {"blocks": ((3, 1),)},
            "keep or double the channels, .* 12 -> 36 in block1",
        ),
        ("mobilenet_v1_react_nano", {"blocks": ((2,),)}, "`blocks` must be pairs"),
        ("mobilenet_v1_react_nano", {"classes": 0}, "`classes` must be positive"),
        ("mobilenet_v1_react_nano", {"blocks": ()}, "`blocks` must be pairs"),
        ("mobilenet_v2", {"classes": 3, "stages": ((1, 16, 1),)}, "`stages` must be quadruples"),
        ("resnet18", {"classes": 3, "stages": ((1, 0),)}, "`stages` must be pairs"),
        ("resnet18", {"classes": 3, "stem_stride": 3}, "`stem_stride` must be 1, 2 or 4"),
        ("quicknet", {"classes": 3, "stem_stride": 8}, "`stem_stride` must be 1, 2 or 4"),
        ("quicknet", {"classes": 3, "channel_divisor": 6}, "must be a multiple of 4"),
    ],
)
def test_refuses(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, **arguments)
