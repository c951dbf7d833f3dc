"""Hand-written float networks with weights as after training, and how to compare functions."""

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.layers import RSign

layers = keras.layers


def trained(model, seed=0):
    """Biases and BatchNorm statistics off their initial values, in nested models too."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.Normalization):
            continue
        for weight in layer._trainable_weights + layer._non_trainable_weights:
            if len(weight.shape) == 1:
                positive = "variance" in weight.name or "gamma" in weight.name
                values = rng.uniform(0.5, 1.5, weight.shape) if positive else None
                weight.assign(rng.normal(size=weight.shape) * 0.1 if values is None else values)
    return model


def shifted(student, seed=0):
    """Thresholds off 0: an addition of 0 would vanish from the flatbuffer."""
    rng = np.random.default_rng(seed)
    for layer in student.layers:
        if isinstance(layer, RSign):
            layer.shift.assign(rng.normal(size=layer.shift.shape) * 0.1)
    return student


def switched(student, active):
    for unit in binary_units(student):
        unit.activate(active)
    return student


def vgg(size=16):
    """Fused activations before BatchNorm, biases, pools, and a hidden dense layer."""
    image = keras.Input((size, size, 3), name="image")
    x = image
    for index, (channels, pooled) in enumerate([(32, False), (32, True), (64, False)]):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"bn{index}")(x)
        if pooled:
            x = layers.MaxPooling2D(name=f"pool{index}")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x), name="vgg")


def residual(size=16):
    """Basic blocks: BatchNorm behind each convolution, `+` for the sum, a strided projection."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    for name, channels, stride in (("one", 32, 1), ("two", 64, 2)):
        y = layers.ZeroPadding2D(name=f"{name}_pad")(x)
        y = layers.Conv2D(channels, 3, stride, name=f"{name}_a")(y)
        y = layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_abn")(y))
        y = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_b")(y)
        y = layers.BatchNormalization(scale=False, name=f"{name}_bbn")(y)
        if stride != 1:
            x = layers.Conv2D(channels, 1, stride, name=f"{name}_project")(x)
        x = layers.ReLU(name=f"{name}_out")(x + y)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, layers.Dense(4, name="head")(x), name="residual")


@keras.saving.register_keras_serializable("bitat_tests")
class Scale(layers.Layer):
    """A custom layer with a convolution that the graph does not show."""

    def build(self, shape):
        self.mix = layers.Conv2D(shape[-1], 1, name="mix")
        self.mix.build(shape)
        super().build(shape)

    def call(self, inputs):
        return 0.5 * self.mix(inputs)


def unusual():
    """Two inputs and outputs, a nested model used twice, a shared layer, branches, a gate, a
    separable convolution, groups and a custom layer.
    """
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(32, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
        ],
        name="stem",
    )
    a, b = inner(left), inner(right)
    shared = layers.Conv2D(32, 1, name="shared")
    x = layers.Concatenate(name="both")([shared(a), shared(b)])
    nested_input = keras.Input((8, 8, 64))
    y = layers.SeparableConv2D(32, 3, padding="same", activation="relu", name="conv")(nested_input)
    y = layers.Conv2D(32, 3, padding="same", groups=2, name="grouped")(y)
    nested = keras.Model(nested_input, [y, layers.Conv2D(32, 1, name="side")(y)], name="block")
    y, side = nested(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    gate = layers.Conv2D(8, 1, activation="relu", name="gate_in")(gate)
    gate = layers.Conv2D(32, 1, activation="sigmoid", name="gate_out")(gate)
    y = layers.Multiply(name="gated")([y, gate])
    y = Scale(name="scale")(y)
    y = layers.Concatenate(name="join")([layers.Conv2D(32, 3, padding="same", name="p")(y), side])
    y = layers.Conv2D(64, 3, padding="same", strides=2, name="q")(y)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(y)
    flat = layers.Dense(16, name="hidden")(pooled)
    flat = layers.BatchNormalization(name="hidden_bn")(flat)
    outputs = {
        "classes": layers.Dense(4, name="classes")(layers.ReLU(name="hidden_relu")(flat)),
        "angle": layers.Dense(1, activation="tanh", name="angle")(pooled),
    }
    return keras.Model([left, right], outputs, name="unusual")


NETWORKS = {"vgg": vgg, "residual": residual, "unusual": unusual}


def examples(model, count=8, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(count, *t.shape[1:])).astype("float32") for t in model.inputs]
    return arrays if len(arrays) > 1 else arrays[0]


def distance(first, second, inputs):
    """Largest difference of two models' outputs, relative to the largest output."""
    pairs = zip(
        tf.nest.flatten(first(inputs, training=False)),
        tf.nest.flatten(second(inputs, training=False)),
        strict=True,
    )
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)
