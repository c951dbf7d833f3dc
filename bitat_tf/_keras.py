"""The one owner of the choice of Keras: everything here runs on Keras 2 (tf-keras).

Larq and Larq Compute Engine know Keras 2 only (larq#909, larq#911). TensorFlow
decides when it is imported, by an environment variable, which Keras it offers; so this
module must be imported before TensorFlow, and says so in one line where it is too late.

It asks TensorFlow for its oneDNN kernels too, which TensorFlow leaves out on processors
without AVX512 though a training step takes a third less time with them; set
`TF_ENABLE_ONEDNN_OPTS=0` to do without.

It also owns TensorFlow's start-up noise: what TensorFlow always prints on import is
dropped, anything else is passed on. Set `TF_CPP_MIN_LOG_LEVEL` to see it all.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from bitat_tf.quiet import held_stderr

_LEGACY = "TF_USE_LEGACY_KERAS"

# Lines of every TensorFlow 2.21 import on a machine without a GPU, and nothing else.
_NOISE = (
    r"oneDNN custom operations are on|Could not find cuda drivers"
    r"|All log messages before absl::InitializeLog|optimized to use available CPU instructions"
    r"|To enable the following instructions|^Using TensorFlow backend"
)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hold back standard error while a noisy library is imported, and replay the rest.

    The C++ side writes to file descriptor 2 before any log level can be set, so the
    descriptor itself is redirected; it is restored whatever happens.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ and os.environ["TF_CPP_MIN_LOG_LEVEL"] != "3":
        yield  # the user asked for TensorFlow's messages
        return
    with held_stderr(_NOISE):
        yield


def _load() -> tuple[Any, Any]:
    if os.environ.get(_LEGACY, "1").lower() not in ("1", "true"):
        raise ImportError(
            f"bitat_tf needs Keras 2, but {_LEGACY}={os.environ[_LEGACY]!r} asks for Keras 3. "
            f"Unset it, or set {_LEGACY}=1."
        )
    os.environ[_LEGACY] = "1"
    with quiet_import():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        import tensorflow as tf
        from tensorflow.keras.layers import Layer
    # `tf.keras` chooses at its first touch, `import tensorflow.keras` when TensorFlow is
    # imported: both must be Keras 2, or libraries would mix the two.
    chosen = (tf.keras.layers.Layer.__module__, Layer.__module__)
    if not all(module.startswith("tf_keras.") for module in chosen):
        raise ImportError(
            "bitat_tf needs Keras 2 (tf-keras), but TensorFlow was imported before it and has "
            "already chosen Keras 3. Import bitat_tf before TensorFlow, or set the environment "
            f"variable {_LEGACY}=1 before Python starts."
        )
    return tf, tf.keras


tf, keras = _load()
