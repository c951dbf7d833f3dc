"""From the student to plain Keras and Larq layers that compute the same, bit for bit.

What exists for the training's sake goes: the transforms with their state, the switches. What
is left can be saved, and loaded by anybody who has Larq.

- `BitatConv2D` becomes `larq.layers.QuantConv2D`, with the latent kernel; where its quantizer is
  not Larq's, with one of Larq's and a kernel of the same signs and scale.
- `RSign` becomes the addition of a constant and `SteSign`; for x + shift both take the sign,
  only the pseudo-gradients differ. With several thresholds x is first concatenated with itself.
- `RPReLU` becomes an addition, Keras' `PReLU` and an addition.
- `Shortcut` becomes Keras' `Add`.
- Larq's `QuantDense` becomes a 1x1 convolution of a 1x1 image, which LCE has a binary kernel for
  (compute-engine#53).

Constants are added by Keras' own layer for a TensorFlow operation, made by name: calling
`x + shift` makes the same layer, but numbers it through the process, and the flatbuffer of
one model would come out differently each time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.convert.kernels import QUANTIZERS
from bitat_tf.graph import Call, binary_units, rebuild
from bitat_tf.layers import BitatConv2D, RPReLU, RSign, Shortcut
from bitat_tf.quantizers import AnnealedQuantizer, lq


def strip(model: Any) -> Any:
    """A new model without the parts that only training needs.

    Args:
        model: functional or Sequential; never changed. A float twin is as welcome as a
            binary network.

    Returns:
        A functional model of Keras and Larq layers only, layer names kept, with outputs
        equal to the given model's bit for bit.

    Raises:
        ValueError: when a binary unit is switched off, a quantizer is a bare function, or a layer
            of this package has no plain counterpart.
    """
    _check_active(model)
    _check_quantizers(model)
    stripper = _Stripper()
    plain = rebuild(model, stripper.replace)
    for layer, weights in stripper.weights:
        layer.set_weights(weights)
    _check_plain(plain)
    return plain


class _Stripper:
    """The replacements, and what weights the new layers take once they are built."""

    def __init__(self) -> None:
        self.weights: list[tuple[Any, list[np.ndarray]]] = []

    def replace(self, call: Call) -> Any:
        layer = call.layer
        if isinstance(layer, BitatConv2D):
            return self._convolution(layer)
        if isinstance(layer, RSign):
            return self._sign(layer)
        if isinstance(layer, RPReLU):
            return self._rprelu(layer)
        if isinstance(layer, Shortcut):
            return keras.layers.Add(name=layer.name)
        if _is_binary_dense(layer):
            return self._dense(layer)
        return None

    def _convolution(self, layer: Any) -> Any:
        config = layer.get_config()
        del config["max_block"]
        kernel = layer.kernel.latent_variable
        if isinstance(layer.kernel_quantizer, AnnealedQuantizer):
            quantizer, kernel = layer.kernel_quantizer.deployed(kernel)
            config["kernel_quantizer"] = lq.quantizers.serialize(quantizer)
        plain = lq.layers.QuantConv2D.from_config(config)
        trained = [kernel, *([layer.bias] if layer.use_bias else [])]
        self.weights.append((plain, [weight.numpy() for weight in trained]))
        return plain

    def _dense(self, layer: Any) -> Any:
        inputs, units = layer.kernel.shape
        config = {**layer.get_config(), "filters": units, "kernel_size": 1}
        del config["units"]
        config.pop("batch_input_shape", None)
        plain = lq.layers.QuantConv2D.from_config(config)
        kernel = layer.kernel.latent_variable.numpy().reshape(1, 1, inputs, units)
        self.weights.append((plain, [kernel, *([layer.bias.numpy()] if layer.use_bias else [])]))
        image = keras.layers.Reshape((1, 1, inputs), name=f"{layer.name}_image")
        row = keras.layers.Reshape((units,), name=f"{layer.name}_row")
        return lambda x: row(plain(image(x)))

    def _sign(self, layer: Any) -> Any:
        shift = adder(f"{layer.name}_shift", layer.shift.numpy())
        sign = lq.quantizers.SteSign(name=layer.name)
        if layer.thresholds == 1:
            return lambda x: sign(shift(x))
        repeat = keras.layers.Concatenate(name=f"{layer.name}_repeat")
        return lambda x: sign(shift(repeat([x] * layer.thresholds)))

    def _rprelu(self, layer: Any) -> Any:
        before = adder(f"{layer.name}_shift_in", layer.shift_in.numpy())
        after = adder(f"{layer.name}_shift_out", layer.shift_out.numpy())
        prelu = keras.layers.PReLU(shared_axes=[1, 2], name=layer.name)
        self.weights.append((prelu, [layer.slope.numpy().reshape(1, 1, -1)]))
        return lambda x: after(prelu(before(x)))


def _is_binary_dense(layer: Any) -> bool:
    """Whether it is Larq's, of signs, and of one row per image."""
    return (
        isinstance(layer, lq.layers.QuantDense)
        and layer.kernel_quantizer is not None
        and len(layer.get_input_shape_at(0)) == 2
    )


def operation(name: str, function: str, *constants: Any) -> Callable[[Any], Any]:
    """A function x -> tf.function(x, *constants) that makes a plain Keras layer of this name.

    Args:
        name: of the layer.
        function: of TensorFlow, without `tf.`.
        constants: its other arguments.
    """
    config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    layer = keras.layers.deserialize({"class_name": "TFOpLambda", "config": config})
    return lambda x: layer(x, *constants)


def adder(name: str, constant: np.ndarray) -> Callable[[Any], Any]:
    """A function x -> x + constant that makes a plain Keras layer of this name.

    Args:
        name: of the layer.
        constant: float32, (channels,).
    """
    return operation(name, "math.add", constant)


def _check_quantizers(model: Any) -> None:
    """A function is serialized by its name, under which Larq registers a class: no copy works."""
    for layer in model.submodules:
        for argument in QUANTIZERS:
            quantizer = getattr(layer, argument, None)
            if quantizer is not None and not isinstance(quantizer, keras.layers.Layer):
                raise ValueError(
                    f"`{argument}` of layer {layer.name!r} must be given by name, such as "
                    f"'ste_sign', or as an instance: Keras cannot make a layer again that has a "
                    f"function there. Received: {quantizer!r}"
                )


def _check_active(model: Any) -> None:
    for unit in binary_units(model):
        if not unit.binary:
            raise ValueError(
                f"`model` still computes the unit {unit.name!r} with reals: it would not be the "
                "network that was trained. Finish the schedule, or switch it on: "
                "`for unit in graph.binary_units(model): unit.activate(True)`; annealed "
                "quantizers need their `progress` at 1."
            )
    for layer in model.layers:
        if isinstance(layer, BitatConv2D | RSign | Shortcut) and not bool(layer.active.numpy()):
            raise ValueError(
                f"`model` still computes the layer {layer.name!r} with reals. Switch it on: "
                f"`model.get_layer({layer.name!r}).active.assign(True)`."
            )


def _check_plain(plain: Any) -> None:
    for module in plain.submodules:  # of nested models too, which are cloned as they are
        if type(module).__module__.split(".")[0] == __name__.split(".")[0]:
            raise ValueError(
                f"Layer {module.name!r} ({type(module).__name__}) has no counterpart in plain "
                "Keras and Larq, or stands in a nested model. Put plain layers in its place, or "
                "build the model without nesting."
            )
