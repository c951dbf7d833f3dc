"""Latency of flatbuffers: on the host, and on a phone."""

from bitat_tf.bench import host

__all__ = ["host"]
