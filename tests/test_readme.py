"""The README's Python runs as it stands, in a fresh interpreter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def run(code, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_s_python_runs(tmp_path):
    assert len(BLOCKS) == 3
    code = "\n".join(BLOCKS[:2]) + "\nassert callback.stages.entered[-1].binary_units == 12\n"
    assert "ParityReport(images=450, agreement=" in run(code, tmp_path)


def test_the_readme_s_script_for_your_own_model_runs_in_30_lines(tmp_path):
    script = BLOCKS[2]
    assert len(script.splitlines()) <= 30
    # the digits, which are at hand, and a few steps
    for long, short in (
        ('"cifar10", data_dir="~/tensorflow_datasets"', '"digits"'),
        ("1600", "6"),
        ("batches=16", "batches=2"),
    ):
        assert long in script
        script = script.replace(long, short)
    predicted, size, accuracy = run(script, tmp_path).splitlines()[-1].split()
    assert int(predicted) == pytest.approx(int(size), rel=0.1)
    assert 0 <= float(accuracy) <= 1
