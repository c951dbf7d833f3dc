"""SIGTERM stops at once, or after what must not be cut in two."""

import os
import signal
import threading

import pytest

from bitat_tf import termination


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def before():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == handler


def test_it_raises_where_nothing_is_at_stake():
    with pytest.raises(termination.Terminated), termination.obeyed():
        terminate()


def test_it_waits_where_something_is():
    asked = []

    def work():
        with termination.postponed() as requested:
            asked.append(requested())
            terminate()
            asked.append(requested())
        asked.append("not reached")

    with termination.obeyed(), pytest.raises(termination.Terminated):
        work()
    assert asked == [False, True]


def test_an_error_of_one_s_own_comes_first():
    def fail():
        with termination.postponed():
            terminate()
            raise RuntimeError("mine")

    with termination.obeyed(), pytest.raises(RuntimeError, match="mine"):
        fail()


def test_a_request_is_not_left_for_the_next():
    def stop():
        with termination.postponed():
            terminate()

    with termination.obeyed():
        for _ in range(2):
            with pytest.raises(termination.Terminated):
                stop()
        with termination.postponed() as requested:
            assert not requested()


def test_another_thread_than_the_main_one_has_no_handler_to_set():
    seen = []

    def work():
        with termination.obeyed(), termination.postponed() as requested:
            seen.append(requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_no_handler_of_errors_takes_it():
    assert not issubclass(termination.Terminated, Exception)
    assert termination.EXIT_STATUS == 143
