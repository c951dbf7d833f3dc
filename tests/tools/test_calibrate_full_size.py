"""The page on the calibration at full size has a row for every binary convolution."""

import sys

import pytest

from bitat_tf import models
from bitat_tf.graph import binary_units

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

SMALL = ["--backbone", "mobilenet_v1_react_nano", "--input-size", "32", "--classes", "10"]


def test_a_row_for_each_layer_and_what_all_took(load_tool, tmp_path):
    tool = load_tool("calibrate_full_size")
    out = tmp_path / "out"
    assert tool.main([*SMALL, "--batches", "1", "--batch-size", "8", "--out", str(out)]) == 0
    page = (out / "full-size-calibration.md").read_text(encoding="utf-8")
    assert "python tools/calibrate_full_size.py --backbone mobilenet_v1_react_nano" in page
    assert "15 binary convolutions, on 8 images" in page
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| bl")]
    student = models.build("mobilenet_v1_react_nano", classes=10)
    expected = {c.name: c for unit in binary_units(student) for c in unit.convolutions}
    assert {row[0] for row in rows} == set(expected)
    for name, inputs, outputs, blocks, seconds in rows:
        height, width, channels, filters = expected[name].kernel.shape
        assert (int(inputs), int(outputs)) == (height * width * channels, filters)
        assert int(blocks) == 1
        assert float(seconds) > 0
