"""Latency of flatbuffers: on the host, and on a phone."""

from bitat_tf.bench import android, host, operators

__all__ = ["android", "host", "operators"]
