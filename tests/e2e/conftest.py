"""One full run of the demo, shared by every test of the command line."""

import pytest

from bitat_tf.cli import main


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The directory of a `bitat demo` run; tests must leave it as they found it."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    return folder
