"""The benchmark tool on this computer: where it lies, and whether the phone can run it.

Larq's releases on GitHub hold `lce_benchmark_model_android_arm64`; their other two builds,
`_aarch64` and `_aarch32`, are for Linux boards. Nothing is downloaded here.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bitat_tf.android_results import DeviceRecord
from bitat_tf.bench.android.elf import read_program
from bitat_tf.bench.android.errors import DeviceError

RELEASES = "https://github.com/larq/compute-engine/releases"

# Only the first is released; the others one builds oneself (docs/android.md).
_NAMES = {
    "arm64-v8a": "lce_benchmark_model_android_arm64",
    "armeabi-v7a": "lce_benchmark_model_android_arm",
    "x86_64": "lce_benchmark_model_android_x86_64",
}


@dataclass(frozen=True)
class Tool:
    """A benchmark tool that a phone can run."""

    path: Path
    sha256: str
    abi: str


def cache_directory() -> Path:
    """Where the tool is looked for: `bitat_tf/android` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bitat_tf" / "android"


def find_tool(given: Path | None, device: DeviceRecord) -> Tool:
    """The tool that the user gave, or the one in the cache directory, checked for the phone.

    Args:
        given: path of the tool; None looks into `cache_directory`.
        device: that is to run it.

    Raises:
        DeviceError: when it is not there, or the phone cannot run it.
    """
    path = _cached(device) if given is None else Path(given)
    if not path.is_file():
        raise DeviceError(f"There is no benchmark tool at {path}. {_where_from(device)}")
    content = path.read_bytes()
    try:
        program = read_program(content)
    except ValueError as err:
        raise DeviceError(f"{path} cannot be the benchmark tool: {err}.") from err
    if program.abi not in device.abis:
        raise DeviceError(
            f"{path} was built for {program.abi}; device {device.serial} runs "
            f"{', '.join(device.abis) or 'nothing that it names'}. {_where_from(device)}"
        )
    if not program.for_android:
        raise DeviceError(
            f"{path} was built for Linux ({program.linker}), not for Android. {_where_from(device)}"
        )
    return Tool(path, hashlib.sha256(content).hexdigest(), program.abi)


def _cached(device: DeviceRecord) -> Path:
    names = [_NAMES[abi] for abi in device.abis if abi in _NAMES]
    candidates = [cache_directory() / name for name in names or [_NAMES["arm64-v8a"]]]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _where_from(device: DeviceRecord) -> str:
    if "arm64-v8a" in device.abis:
        return (
            f"Take {_NAMES['arm64-v8a']} from {RELEASES} and give it with --binary, or put it "
            f"into {cache_directory()}."
        )
    return f"Build it for {device.abi} (docs/android.md) and give it with --binary."
