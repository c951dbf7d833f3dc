"""Standard error of native code, and logs, held back while it runs, less what is known as noise."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

#: What TensorFlow Lite says of every interpreter with XNNPACK; nothing is wrong.
XNNPACK_NOTE = "INFO: Created TensorFlow Lite XNNPACK delegate"


@contextlib.contextmanager
def held_stderr(noise: str) -> Iterator[None]:
    """Hold file descriptor 2 back, and replay at the end all lines that are not noise.

    Native code writes to the descriptor itself, past `sys.stderr`.

    Args:
        noise: regular expression of what to drop.
    """
    try:
        saved = os.dup(2)
    except OSError:  # started without a standard error: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if line.strip() and not re.search(noise, line):
                    print(line, file=sys.stderr)


@contextlib.contextmanager
def without(logger_name: str, *texts: str) -> Iterator[None]:
    """Have a Python logger drop the records that hold one of the texts, for a while."""
    logger = logging.getLogger(logger_name)

    def other(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in texts)

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@contextlib.contextmanager
def errors_only(logger_name: str) -> Iterator[None]:
    """Have a Python logger say nothing below an error, for a while."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
