"""Single operators of a flatbuffer, run on tensors of the caller's choice.

Neither interpreter shows what a tensor within the network holds. An operator that is cut out
(`cut`) has its inputs and its output at the surface.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitat_tf._keras import quiet_import
from bitat_tf.runtime.cut import cut_out
from bitat_tf.runtime.native import Network, open_lce, open_tflite


def run_operator(
    model: Any, index: int, inputs: Sequence[np.ndarray], *, lce: bool, output: int = 0
) -> np.ndarray:
    """One output of one operator, for each image.

    Args:
        model: as `runtime.read` gives it, of a flatbuffer that passed `probe`.
        index: of the operator, in execution order.
        inputs: (n, ...) each, in the order of `cut.computed_inputs` and in the types and, but
            for n images instead of one, the shapes of these tensors.
        lce: whether to use Larq Compute Engine's interpreter, as for flatbuffers with its
            operators; else TensorFlow's.
        output: which of the operator's outputs.

    Returns:
        (n, ...).

    Raises:
        ValueError: when the operator does not run alone.
    """
    network = _open(cut_out(model, index, 1, output), lce)
    try:
        rows = [
            network.predict([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))
        ]
    except RuntimeError as err:
        raise ValueError(f"Operator {index} does not run alone: {err}") from err
    return np.concatenate(rows)


def _open(flatbuffer: bytes, lce: bool) -> Network:
    with quiet_import():
        if lce:
            from larq_compute_engine.tflite.python import interpreter_wrapper_lite as module
        else:
            from tensorflow.lite.python.interpreter_wrapper import (
                _pywrap_tensorflow_interpreter_wrapper as module,
            )
    return (open_lce if lce else open_tflite)(module, flatbuffer, 1)
