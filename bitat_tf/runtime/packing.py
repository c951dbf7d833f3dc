"""A flatbuffer written from the schema's `ModelT`, its buffers aligned as TFLite's own.

The schema asks for buffers that begin at multiples of 16 bytes, so that kernels can read weights
where they lie; the generated Python writer ignores that. Same model, same bytes.
"""

from typing import Any

import flatbuffers

from bitat_tf.runtime.schema import schema

_IDENTIFIER = b"TFL3"
# `force_align` of `Buffer.data` in TensorFlow's schema.fbs.
_ALIGNMENT = 16


def pack(model: Any) -> bytes:
    """The bytes of a `.tflite` file.

    Args:
        model: as `schema.read` gives it, perhaps changed; left as it is.
    """
    builder = flatbuffers.Builder(1024)
    written = schema.ModelT()
    vars(written).update(vars(model))
    written.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder.Finish(written.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Aligned:
    """What packs a buffer whose data, if any, begin at a multiple of the alignment."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:
        """Called by the generated writer, by this name."""
        data = self._buffer.data
        if data is None or isinstance(data, int) or not len(data):  # 0: the reader found none
            return int(schema.BufferT().Pack(builder))
        builder.Prep(_ALIGNMENT, len(data))  # C++: ForceVectorAlignment
        vector = builder.CreateByteVector(bytes(data))
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))
