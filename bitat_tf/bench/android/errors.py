"""What can go wrong with a phone: asked for what cannot be, or failed on the way."""

from bitat_tf.android_results import AndroidBenchmark


class DeviceError(ValueError):
    """The benchmark cannot start as asked: no usable phone, `adb` or benchmark tool."""


class MeasurementError(RuntimeError):
    """The benchmark failed on the way.

    Attributes:
        finished: what was measured before; None where nothing was.
    """

    finished: AndroidBenchmark | None = None


class DeviceLost(MeasurementError):
    """The phone went away, or its shell ended early."""


class StorageFull(MeasurementError):
    """The phone has no room for the tool and the models."""


class TimedOut(MeasurementError):
    """Something on the phone did not end in time; it may still run there."""


class ToolFailed(MeasurementError):
    """The tool ended with an error, or its output cannot be trusted."""
