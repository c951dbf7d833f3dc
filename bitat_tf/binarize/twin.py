"""The float network that a student came from, in the student's own layers.

Calibration matches a student's tensors with the teacher's by layer name. A student that
`binarize` made has layers that the user's float model does not: nested models are inlined,
activations split off, biases moved into BatchNormalizations. `float_twin` does the same to the
float model, so that every layer of the student but its signs and added shortcuts is there.
"""

from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.binarize.build import build
from bitat_tf.binarize.flatten import flatten
from bitat_tf.binarize.plan import Decision, Plan
from bitat_tf.graph import Graph
from bitat_tf.layers import BitatConv2D, RSign, Shortcut


def float_twin(student: Any, model: Any) -> Any:
    """A float model with the student's layer names that computes what `model` does.

    Args:
        student: functional model with `BitatConv2D` layers.
        model: the float model that it was made of, or a builder's twin; never changed. Its
            weights may have been trained on since.

    Returns:
        `model` itself where it has the student's layers already; else a new functional model.

    Raises:
        ValueError: when `model` cannot be flattened.
    """
    if _fits(student, model):
        return model
    flat = flatten(model, _sizes(student, model))
    plan = Plan(flat.model, flat.kinds)
    for layer in student.layers:
        decision = plan.decisions.get(layer.name)
        if isinstance(layer, BitatConv2D) and decision is not None and _convolves(decision):
            decision.binary = True
    return build(flat.model, plan.decisions, binary=False)[0]


def _fits(student: Any, model: Any) -> bool:
    """Whether the model has every layer of the student that can be told from the weights."""
    names = {call.layer.name: call.layer for call in Graph(model).calls}
    for layer in student.layers:
        if isinstance(layer, RSign | Shortcut):
            continue
        if not layer.weights and not isinstance(layer, keras.layers.Activation):
            continue
        twin = names.get(layer.name)
        if twin is None:
            return False
        kernel_only = isinstance(layer, BitatConv2D)
        if len(twin.weights) != (1 if kernel_only else len(layer.weights)):
            return False
        if kernel_only and type(twin) is keras.layers.Dense:
            return False
    return True


def _convolves(decision: Decision) -> bool:
    return type(decision.layer) in (keras.layers.Conv2D, keras.layers.Dense)


def _sizes(student: Any, model: Any) -> Any:
    """Empty arrays of the student's input sizes, where the model leaves its own open."""
    if all(None not in tensor.shape[1:] for tensor in model.inputs):
        return None
    return [np.empty((0, *tensor.shape[1:]), "float32") for tensor in student.inputs]
