"""The cost table has all its rows, its ratios make sense, and a large K stays affordable."""

import importlib
import math
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
MODULES = ("benchmark_training", "costs", "experiments")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))  # as Python does for a script; child processes get it as well
    yield importlib.import_module("benchmark_training")
    sys.path.remove(str(TOOLS))
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def costs(tool):
    return sys.modules["costs"]


def tables(page):
    """Each table's rows of cells, its head first."""
    found, rows = [], []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            head, _, *body = rows
            found.append([head, *body])
            rows = []
    return found


def test_quick_writes_every_row_with_positive_finite_numbers(tool, tmp_path):
    assert tool.main(["--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "training-cost.png").stat().st_size > 0
    page = (tmp_path / "training-cost.md").read_text(encoding="utf-8")
    assert "python tools/benchmark_training.py --quick" in page
    backbone, layers, depth = tables(page)
    assert [row[0] for row in backbone[1:]] == [
        "training step, plain Larq",
        "training step, BiTAT student",
        "training step, float twin",
        "calibration",
        "refresh of all transforms",
    ]
    assert [row[:3] for row in layers[1:]] == [
        ["27", "16", "27"],
        ["108", "12", "108"],
        ["108", "12", "54"],
    ]
    assert [row[:2] for row in depth[1:]] == [["1", "3"]]
    numbers = [row[1:] for row in backbone[1:]] + layers[1:] + depth[1:]
    for cell in (cell for row in numbers for cell in row):
        value = float(cell.split(" ")[0].replace(",", ""))
        assert math.isfinite(value)
        assert value > 0


def test_numbers_have_three_digits_and_no_exponent(tool):
    shown = [tool.number(value) for value in (0.00123, 0.5, 1.0, 12.3456, 99.96, 100.2, 1234.5)]
    assert shown == ["0.00123", "0.500", "1.00", "12.3", "100", "100", "1,234"]


def test_peak_memory_counts_what_is_held_at_once_and_nothing_from_before(costs):
    size = 64 << 20

    def hold(count):
        return lambda: [bytearray(b"x") * size for _ in range(count)]

    costs.peak_extra_bytes(hold(4))
    assert costs.peak_extra_bytes(hold(2)) == pytest.approx(2 * size, rel=0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_largest_layer_calibrates_within_four_gibibytes_and_faster_in_blocks(costs):
    # Summing up C is the same with and without blocks: few batches leave more of the difference.
    effort = costs.Effort(batches=2, steps=1, repeats=1)
    whole, blocks = (
        costs.measure_alone(costs.LayerCase(4608, 512, max_block), effort)
        for max_block in (4608, 1152)
    )
    assert whole.calibration_bytes < 4 << 30
    assert blocks.calibration_bytes < 4 << 30
    assert blocks.calibration_seconds < whole.calibration_seconds
