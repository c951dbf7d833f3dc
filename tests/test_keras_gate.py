"""The choice of Keras, in fresh interpreters: it can only be made once per process."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(code, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        timeout=120,
        cwd=ROOT,
    )


def test_a_plain_import_makes_keras_2_the_keras_and_prints_nothing():
    done = run(
        "import bitat_tf, tensorflow as tf; print(tf.keras.layers.Layer.__module__);"
        "tf.constant(1.0) + 1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")
    assert done.stderr == ""


def test_tensorflow_first_is_fine_where_it_chose_keras_2():
    done = run("import tensorflow; import bitat_tf; print('fine')", TF_USE_LEGACY_KERAS="1")
    assert done.stdout == "fine\n"


@pytest.mark.parametrize("touch", ["", "tf.keras.layers.Dense;"])
def test_keras_3_first_is_one_clear_error_with_the_remedy(touch):
    done = run(f"import tensorflow as tf; {touch} import bitat_tf")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: bitat_tf needs Keras 2")
    assert "Import bitat_tf before" in last


def test_an_environment_that_asks_for_keras_3_is_refused():
    done = run("import bitat_tf", TF_USE_LEGACY_KERAS="0")
    assert "ImportError: bitat_tf needs Keras 2, but TF_USE_LEGACY_KERAS='0'" in done.stderr


def test_the_installed_command_says_so_in_one_line():
    command = (
        "import sys; from bitat_command import main; sys.argv = ['bitat', *{}]; sys.exit(main())"
    )
    done = run(command.format(["--help"]), TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 2
    assert done.stderr.startswith("bitat: bitat_tf needs Keras 2, but TF_USE_LEGACY_KERAS='0'")
    assert len(done.stderr.splitlines()) == 1
    verbose = run(command.format(["report", "x", "--verbose"]), TF_USE_LEGACY_KERAS="0")
    assert verbose.returncode == 2
    assert "Traceback" in verbose.stderr
    fine = run(command.format(["--help"]))
    assert fine.returncode == 0
    assert fine.stdout.startswith("usage: bitat")


def test_the_command_is_what_the_package_installs():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["console_scripts"].split() == [
        "bitat",
        "=",
        "bitat_command:main",
    ]
    assert setup["options"]["py_modules"].split() == ["bitat_command"]


def test_tensorflow_s_messages_can_be_had():
    done = run("import bitat_tf", TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" in done.stderr


def test_a_failing_import_is_not_swallowed_with_the_noise():
    code = (
        "import os, sys\n"
        "from bitat_tf._keras import quiet_import\n"
        "try:\n"
        "    with quiet_import():\n"
        "        os.write(2, b'oneDNN custom operations are on\\nsomething real\\n')\n"
        "        raise ImportError('broken')\n"
        "except ImportError as err:\n"
        "    print(err)\n"
    )
    done = run(code)
    assert done.stdout == "broken\n"
    assert done.stderr == "something real\n"
