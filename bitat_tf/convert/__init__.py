"""From a trained Keras model to a flatbuffer for Larq Compute Engine, and the proof of it.

`strip` -> `fold` -> `export` -> `audit` -> `check_parity`; `export` runs the first four.
"""

from bitat_tf.convert.audit import audit
from bitat_tf.convert.builtin import export_float, export_int8
from bitat_tf.convert.embed import embed, embedded, summarize
from bitat_tf.convert.export import (
    Conversion,
    ConversionError,
    Ends,
    convert_model,
    export,
)
from bitat_tf.convert.fold import fold, fold_with_report
from bitat_tf.convert.kernels import binary_kernels
from bitat_tf.convert.layer_parity import check_layers, describe
from bitat_tf.convert.parity import check_conversion, check_parity, require_parity
from bitat_tf.convert.strip import strip

__all__ = [
    "Conversion",
    "ConversionError",
    "Ends",
    "audit",
    "binary_kernels",
    "check_conversion",
    "check_layers",
    "check_parity",
    "convert_model",
    "describe",
    "embed",
    "embedded",
    "export",
    "export_float",
    "export_int8",
    "fold",
    "fold_with_report",
    "require_parity",
    "strip",
    "summarize",
]
