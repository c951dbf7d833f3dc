"""What `binarize` cannot take, each in one line with what to do about it."""

from typing import Any

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.quantizers import lq

# Keras has no public name for the class that both functional and Sequential models have.
_FUNCTIONAL = keras.Sequential.__mro__[1]

_OTHER_PRECISION = ("float16", "bfloat16", "float64")


def readable(layer: Any) -> bool:
    """Whether a layer is a model whose calls can be read: functional or Sequential, built."""
    return (
        isinstance(layer, _FUNCTIONAL)
        and type(layer).call in (_FUNCTIONAL.call, keras.Sequential.call)
        and bool(getattr(layer, "_nodes_by_depth", None))
        and bool(layer.inputs)
    )


def refuse(model: Any, example_input: Any = None) -> None:
    """Raise where a model cannot be binarized.

    Args:
        model: what the user gave.
        example_input: inputs whose sizes stand for those that the model leaves open.

    Raises:
        ValueError: see `bitat_tf.binarize`.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a Keras 2 model (tf-keras). Received: "
            f"{type(model).__module__}.{type(model).__name__}. Build it with "
            "`from tensorflow import keras` after `import bitat_tf`, or give a path to "
            "`keras.models.load_model`."
        )
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"`model` {model.name!r} has no weights yet. Begin it with keras.Input(shape), or "
            "call `model.build((None, height, width, channels))`, and train it."
        )
    if not readable(model):
        raise ValueError(
            f"`model` must be functional or Sequential, so that its graph can be read. Received: "
            f"the subclassed model {type(model).__name__} {model.name!r}. Rebuild it as "
            "keras.Model(inputs, outputs) and copy the weights with `set_weights`."
        )
    if not model.weights:
        raise ValueError(
            f"`model` {model.name!r} has no weights: there is nothing to binarize. Give a trained "
            "model with convolutions or dense layers."
        )
    for layer in model._flatten_layers(include_self=False):
        _refuse_layer(layer)
    _refuse_sizes(model, example_input)


def _refuse_layer(layer: Any) -> None:
    if isinstance(layer, BitatConv2D | RSign | lq.layers.QuantConv2D | lq.layers.QuantDense):
        raise ValueError(
            f"`model` has 1-bit layers already. Received: {layer.name!r} "
            f"({type(layer).__name__}). Give the float network."
        )
    if getattr(layer, "data_format", None) == "channels_first":
        raise ValueError(
            f"Layer {layer.name!r} is channels_first, which LCE has no kernels for. Rebuild the "
            'model with data_format="channels_last"; the weights of its convolutions stay the '
            "same."
        )
    if layer.compute_dtype in _OTHER_PRECISION:
        raise ValueError(
            f"Layer {layer.name!r} computes in {layer.compute_dtype}, which LCE cannot convert. "
            "Rebuild the model under the policy float32 "
            '(`keras.mixed_precision.set_global_policy("float32")`) and copy the weights with '
            "`set_weights`."
        )


def _refuse_sizes(model: Any, example_input: Any) -> None:
    if example_input is None:
        for tensor in model.inputs:
            if None in tensor.shape[1:]:
                raise ValueError(
                    f"`model` has an input of unknown size. Received: {tuple(tensor.shape)}. Give "
                    "`example_input`, an array with the size that the device will see, or rebuild "
                    "the model with it."
                )
        return
    examples = tf.nest.flatten(example_input)
    shapes = [np.shape(example) for example in examples]
    fits = len(shapes) == len(model.inputs) and all(
        tensor.shape.is_compatible_with(shape)
        for tensor, shape in zip(model.inputs, shapes, strict=True)
    )
    if not fits:
        raise ValueError(
            "`example_input` must hold one array per input of the model, batch first: "
            f"{[tuple(t.shape) for t in model.inputs]}. Received: {shapes}"
        )
