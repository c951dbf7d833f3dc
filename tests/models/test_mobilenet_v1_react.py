import numpy as np
import pytest

from bitat_tf import graph, models
from bitat_tf._keras import keras


def macs(model):
    """Multiply-accumulates of every convolution, by layer name."""
    return {
        layer.name: int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output_shape[1:3]))
        for layer in model.layers
        if hasattr(layer, "kernel_size")
    }


def test_the_nano_net_has_15_binary_convolutions_and_5_6_million_macs():
    model = models.build("mobilenet_v1_react_nano")
    binary = [c.name for unit in graph.binary_units(model) for c in unit.convolutions]
    assert len(binary) == 15
    assert sum(macs(model)[name] for name in binary) == pytest.approx(5.6e6, rel=0.01)


def test_reactnet_a_has_the_published_parameters_and_operations():
    # 29.3 M parameters and 87 M OPs = BOPs / 64 + FLOPs (arXiv 2003.03488, table 1)
    model = models.build("mobilenet_v1_react", classes=1000)
    binary = {c.name for unit in graph.binary_units(model) for c in unit.convolutions}
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == pytest.approx(29.3e6, rel=0.01)
    counts = macs(model)
    one_bit = sum(counts[name] for name in binary)
    real = sum(n for name, n in counts.items() if name not in binary) + 1024 * 1000
    assert one_bit / 64 + real == pytest.approx(87e6, rel=0.01)


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
        ("mobilenet_v1_react_nano", {"blocks": ((3, 1),)}, "keep or double the channels"),
        ("mobilenet_v1_react_nano", {"blocks": ((2,),)}, "`blocks` must be pairs"),
        ("mobilenet_v1_react_nano", {"classes": 0}, "`classes` must be positive"),
    ],
)
def test_refuses(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, **arguments)
