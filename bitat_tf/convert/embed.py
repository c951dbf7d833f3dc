"""The metadata record in the flatbuffer itself, so that it cannot be lost.

A TFLite flatbuffer has a list of named `metadata` buffers; interpreters skip names that they do
not know. Ours is called `BITAT_METADATA` and holds a `metadata.Metadata` as compact UTF-8 JSON,
which any language reads. Not TFLite Support's own `TFLITE_METADATA`: its library has no
wheel for Python 3.12, and its schema has no place for a recipe or an audit.

Same flatbuffer and record, same bytes; embedding again replaces.
"""

import json
from typing import Any

from bitat_tf._version import __version__
from bitat_tf.metadata import AuditSummary, Metadata
from bitat_tf.records import from_json, to_mapping
from bitat_tf.results import AuditReport
from bitat_tf.runtime import read
from bitat_tf.runtime.packing import pack
from bitat_tf.runtime.schema import schema

ENTRY = "BITAT_METADATA"
"""Name of the flatbuffer's metadata entry that holds the record."""


def embed(flatbuffer: bytes, metadata: Metadata) -> bytes:
    """The flatbuffer with the record in it, in place of an earlier one.

    Args:
        flatbuffer: content of a `.tflite` file; computes the same afterwards.
        metadata: what it shall say of itself.

    Returns:
        The new content.

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer.
    """
    model = read(flatbuffer)
    buffer = schema.BufferT()
    compact = json.dumps(
        to_mapping(metadata), separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    buffer.data = compact.encode()
    there = _entry(model)
    if there is not None:
        model.buffers[there.buffer] = buffer
    else:
        entry = schema.MetadataT()
        entry.name, entry.buffer = ENTRY.encode(), len(model.buffers)
        model.buffers = [*model.buffers, buffer]
        model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def embedded(flatbuffer: bytes) -> Metadata | None:
    """The record in a flatbuffer; None where it carries none.

    Args:
        flatbuffer: content of a `.tflite` file.

    Returns:
        The record, or None.

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer, or the record cannot be read.
    """
    model = read(flatbuffer)
    entry = _entry(model)
    if entry is None:
        return None
    data = model.buffers[entry.buffer].data if 0 <= entry.buffer < len(model.buffers) else None
    try:
        return from_json(Metadata, bytes(() if data is None else data).decode())
    except ValueError as err:  # of the encoding, too
        raise ValueError(
            f"The flatbuffer's metadata cannot be read by bitat_tf {__version__}: {err} If "
            "another version wrote it, use that one; else convert the model again."
        ) from err


def summarize(report: AuditReport) -> AuditSummary:
    """An audit in a few numbers.

    Args:
        report: of `audit`.

    Returns:
        Its sums.
    """
    return AuditSummary(
        operators=len(report.ops),
        binary_convolutions=report.binary_convolutions,
        float_convolutions=report.float_convolutions,
        binary_macs=report.binary_macs,
        float_macs=report.float_macs,
    )


def _entry(model: Any) -> Any:
    found = (entry for entry in model.metadata or [] if entry.name == ENTRY.encode())
    return next(found, None)
