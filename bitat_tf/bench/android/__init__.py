"""Latency on a phone, through the `adb` command and Larq's `lce_benchmark_model`.

adb       the client: quoted, with time limits
device    what the phone says of itself
elf, tool the benchmark tool, checked before it is pushed
cores     the mask of the fast cores
heat      waiting for a hot phone
options   what to measure, and the tool's command line
remote    the private directory on the phone, removed whatever happens
session   all of it in turn: `measure`
"""

from bitat_tf.bench.android.errors import DeviceError, MeasurementError
from bitat_tf.bench.android.heat import HeatLimits
from bitat_tf.bench.android.options import Options
from bitat_tf.bench.android.session import measure
from bitat_tf.bench.android.tool import cache_directory

__all__ = [
    "DeviceError",
    "HeatLimits",
    "MeasurementError",
    "Options",
    "cache_directory",
    "measure",
]
