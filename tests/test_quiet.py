"""A logger is quiet for a while, and no longer."""

import logging

import pytest

from bitat_tf.quiet import errors_only


def test_warnings_are_held_back_and_errors_are_not(caplog):
    logger = logging.getLogger("some.library")
    with errors_only("some.library"):
        logger.warning("noise")
        logger.error("trouble")
    logger.warning("after")
    assert [record.message for record in caplog.records] == ["trouble", "after"]


def test_the_level_comes_back_after_an_error():
    logger = logging.getLogger("some.library")
    logger.setLevel(logging.INFO)
    with pytest.raises(KeyError), errors_only("some.library"):
        raise KeyError
    assert logger.level == logging.INFO
