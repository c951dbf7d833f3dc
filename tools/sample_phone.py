"""The sample record of notebooks/05_on_the_phone.ipynb, where no phone is at hand.

    python tools/sample_phone.py [--out notebooks/sample_phone.json]

The real `adb` talks to the tests' stand-in for a phone (`tests/bench/android/stand_in.py`), whose
benchmark tool runs the flatbuffers with LCE's interpreter on this computer. So the record has the
form of a phone's, and its milliseconds mean nothing. Needs `adb`; takes a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitat_tf import convert, models
from bitat_tf._keras import keras
from bitat_tf.bench import android
from bitat_tf.files import write_text
from bitat_tf.records import to_json

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "bench" / "android"))

from stand_in import StandIn  # noqa: E402
from stand_in_phone import elf  # noqa: E402
from stand_in_tool import MARK  # noqa: E402

_PORT = "5047"  # an adb server of our own: a running one may hold real phones


def flatbuffers() -> dict[str, bytes]:
    """The digits network with random weights: float, int8, binary."""
    keras.utils.set_random_seed(0)
    arguments = {"input_size": 8, "input_channels": 1}
    teacher = models.build("mobilenet_v1_react_nano", binary=False, **arguments)
    student = models.build("mobilenet_v1_react_nano", binary=True, **arguments)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    return {
        "float": convert.export_float(teacher),
        "int8": convert.export_int8(teacher, images),
        "binary": convert.export(student),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure on the stand-in and write the record."""
    parser = argparse.ArgumentParser(description="The sample record of notebook 05.")
    parser.add_argument("--out", type=Path, default=ROOT / "notebooks" / "sample_phone.json")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(ANDROID_ADB_SERVER_PORT=_PORT, HOME=scratch, TMPDIR=scratch)
        tool = Path(scratch, "lce_benchmark_model_android_arm64")
        behaviour = json.dumps({"kind": "run"}).encode()
        tool.write_bytes(elf(183, linker=b"/system/bin/linker64", tail=MARK + behaviour))
        phone = Path(scratch, "phone")
        phone.mkdir()
        device = StandIn(phone)
        try:
            subprocess.run(["adb", "connect", device.serial], check=True, capture_output=True)
            options = android.Options(serial=device.serial, binary=tool, xnnpack=(False,))
            benchmark = android.measure(flatbuffers(), options)
        finally:
            device.__exit__()
            subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
    write_text(arguments.out, to_json(benchmark))
    return 0


if __name__ == "__main__":
    sys.exit(main())
