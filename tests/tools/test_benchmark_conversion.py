"""The table has every flatbuffer, and ours is smaller."""

import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    load_tool("experiments")
    return load_tool("benchmark_conversion")


def test_quick_writes_a_line_for_every_flatbuffer(tool, tmp_path):
    assert tool.main(["--quick", "--out", str(tmp_path)]) == 0
    text = (tmp_path / tool.NAME).read_text(encoding="utf-8")
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| 32 px")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert [line[1] for line in cells] == [tool.PLAIN, tool.FOLDED, tool.INT8]
    operators = [int(line[2]) for line in cells]
    assert operators == [198, 139, 143]
    sizes = [float(line[4]) for line in cells]
    assert sizes[0] > sizes[1] > sizes[2]
    assert "python tools/benchmark_conversion.py --quick" in text
    assert "LceBconv2d" in text
