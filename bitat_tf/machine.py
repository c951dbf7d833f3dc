"""What an experiment ran on: saved beside every result, so that figures can be compared."""

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "bitat_tf",
    "tensorflow",
    "tf-keras",
    "larq",
    "larq-compute-engine",
    "tensorflow-datasets",
    "keras-cv",
    "numpy",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in _PACKAGES}}


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")  # Linux only; `platform` knows no model there
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def describe() -> str:
    """Processor, cores and system in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores, {platform.system()} {platform.machine()}"
