"""The one owner of flatbuffers as bytes and of the interpreters that run them.

LCE's and TFLite's interpreters trust their input: a truncated flatbuffer kills the process.
So nothing reaches one here before `verify` has read its whole structure and `probe` has loaded
and run it once in a child process. `Runner` does both.

Measured on a 16 KB flatbuffer with five binary convolutions: of 60 random truncations 56 kill
LCE's interpreter by SIGSEGV, and `verify` refused all of 200. Of 700 changes of a single bit or
byte it lets 64 % pass (most hit weights and names); the interpreter refused 9 % of those, and
none crashed it. So `verify` alone (13 ms) would do for files cut off, and `probe` (0.2 s) is
the guarantee for what no schema can know.
"""

from bitat_tf.runtime.first_load import probe
from bitat_tf.runtime.runner import Runner
from bitat_tf.runtime.schema import (
    HEAD_BYTES,
    REMEDY,
    is_flatbuffer,
    operator_name,
    read,
    tensor_shape,
    type_name,
    uses_lce,
    verify,
)
from bitat_tf.runtime.stopwatch import Stopwatch, spare_cores

__all__ = [
    "HEAD_BYTES",
    "REMEDY",
    "Runner",
    "Stopwatch",
    "is_flatbuffer",
    "operator_name",
    "probe",
    "read",
    "spare_cores",
    "tensor_shape",
    "type_name",
    "uses_lce",
    "verify",
]
