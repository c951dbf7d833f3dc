"""A flatbuffer's structure, read whole through TensorFlow's own schema.

The generated readers are lenient: a slice that runs over the end of the file comes back
short, an index is not looked at. `read` makes both an error, so that what it returns can be
walked without surprise.
"""

import math
import struct
from typing import Any

import numpy as np

from bitat_tf._keras import quiet_import

with quiet_import():
    from tensorflow.lite.python import schema_py_generated as schema

REMEDY = "Export or copy the file again."
"""How messages about a damaged file end."""

HEAD_BYTES = 8
"""The offset of the root table and the identifier."""

# Bytes per element; types that are packed or of variable length are left out.
_ITEM_SIZE = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.FLOAT64: 8,
    schema.TensorType.INT8: 1,
    schema.TensorType.UINT8: 1,
    schema.TensorType.INT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.BOOL: 1,
}


class _Bounded(bytes):
    """Bytes of which no slice runs over the end."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.stop is not None and key.stop > len(self):
            raise IndexError(f"slice up to byte {key.stop} of {len(self)}")
        return super().__getitem__(key)


def verify(flatbuffer: bytes) -> None:
    """Check that the bytes are one whole TFLite flatbuffer.

    That every offset, length and index in it holds, not that its operators agree with each
    other; for that, `probe` runs it.

    Args:
        flatbuffer: content of a `.tflite` file.

    Raises:
        ValueError: when they are not.
    """
    read(flatbuffer)


def read(flatbuffer: bytes) -> Any:
    """The flatbuffer as the schema's `ModelT`, with every index in it checked.

    Args:
        flatbuffer: content of a `.tflite` file.

    Returns:
        The schema's object tree (`tensorflow.lite.python.schema_py_generated`).

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer.
    """
    if not isinstance(flatbuffer, bytes):
        raise ValueError(f"`flatbuffer` must be bytes. Received: {type(flatbuffer).__name__}")
    if not flatbuffer:
        raise ValueError(f"The flatbuffer is empty (0 bytes). {REMEDY}")
    if not is_flatbuffer(flatbuffer):
        raise ValueError(
            "Not a TFLite flatbuffer: the identifier TFL3 is missing. "
            f"Received: {len(flatbuffer)} bytes that start with {flatbuffer[:HEAD_BYTES]!r}. "
            "Give a .tflite file."
        )
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(_Bounded(flatbuffer), 0))
        _check_model(model)
    # What the generated readers raise where an offset, a length or a type is wrong.
    except (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError) as err:
        raise ValueError(
            f"The flatbuffer is truncated or corrupt ({len(flatbuffer)} bytes): {err}. {REMEDY}"
        ) from err
    return model


def is_flatbuffer(head: bytes) -> bool:
    """Whether a file that begins with these bytes says that it is a TFLite flatbuffer.

    Args:
        head: the first `HEAD_BYTES`, or more.

    Returns:
        True or False; True is no proof that the rest is whole (`verify`).
    """
    return len(head) >= HEAD_BYTES and schema.Model.ModelBufferHasIdentifier(head, 0)


def operator_name(model: Any, operator: Any) -> str:
    """Custom or builtin name of one of a model's operators, e.g. `"CONV_2D"`.

    Args:
        model: as `read` gives it.
        operator: of one of its subgraphs.

    Returns:
        The name.
    """
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode(errors="replace")
    # Files older than 2020 hold the code in the deprecated byte only.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _BUILTINS.get(builtin, f"BUILTIN_{builtin}")


def type_name(tensor: Any) -> str:
    """TFLite's name of a tensor's type, e.g. `"FLOAT32"`.

    Args:
        tensor: of a subgraph, as `read` gives it.

    Returns:
        The name.
    """
    return _TYPES.get(tensor.type, f"TYPE_{tensor.type}")


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """A tensor's shape; () of a scalar.

    Args:
        tensor: of a subgraph, as `read` gives it.

    Returns:
        Sizes, outermost first.
    """
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def uses_lce(flatbuffer: bytes) -> bool:
    """Whether a flatbuffer holds operators that only Larq Compute Engine runs.

    Args:
        flatbuffer: content of a `.tflite` file.

    Returns:
        True or False.

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer.
    """
    codes = read(flatbuffer).operatorCodes
    return any((code.customCode or b"").startswith(b"Lce") for code in codes)


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


_BUILTINS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)


def _check_model(model: Any) -> None:
    if model.version != 3:
        raise ValueError(f"schema version {model.version}, not 3")
    for table in ("subgraphs", "operatorCodes", "buffers"):
        if not getattr(model, table):
            raise ValueError(f"it has no {table}")
    for graph in model.subgraphs:
        _check_graph(model, graph)


def _check_graph(model: Any, graph: Any) -> None:
    tensors = graph.tensors or []
    for tensor in tensors:
        _check_index("buffer", tensor.buffer, model.buffers)
        _check_tensor(tensor, model.buffers[tensor.buffer])
    for name in ("inputs", "outputs"):
        _check_indices(f"graph {name}", getattr(graph, name), tensors, least=0)
        if not _present(getattr(graph, name)):
            raise ValueError(f"the graph has no {name}")
    for operator in graph.operators or []:
        _check_index("operator code", operator.opcodeIndex, model.operatorCodes)
        # -1 is an input left out.
        _check_indices("operator inputs", operator.inputs, tensors, least=-1)
        _check_indices("operator outputs", operator.outputs, tensors, least=0)
        if not _present(operator.outputs):
            raise ValueError("an operator has no outputs")


def _check_tensor(tensor: Any, buffer: Any) -> None:
    shape = tensor_shape(tensor)
    if any(size < 0 for size in shape):
        raise ValueError(f"tensor of shape {shape}")
    if tensor.type not in _TYPES:
        raise ValueError(f"tensor of unknown type {tensor.type}")
    item = _ITEM_SIZE.get(tensor.type)
    if item is None or not _present(buffer.data) or tensor.sparsity is not None:
        return
    expected = math.prod(shape) * item
    if len(buffer.data) != expected:
        raise ValueError(f"tensor of {expected} bytes in a buffer of {len(buffer.data)}")


def _present(vector: Any) -> bool:
    return vector is not None and not np.isscalar(vector) and len(vector) > 0


def _check_index(what: str, index: int, table: Any) -> None:
    if not 0 <= index < len(table):
        raise ValueError(f"{what} {index} of {len(table)}")


def _check_indices(what: str, indices: Any, table: Any, least: int) -> None:
    for index in indices if _present(indices) else ():
        if not least <= index < len(table):
            raise ValueError(f"{what}: tensor {index} of {len(table)}")
