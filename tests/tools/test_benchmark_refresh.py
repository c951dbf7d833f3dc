"""The ways to refresh V that are compared: all orthonormal, and better than doing nothing."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_refresh.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("benchmark_refresh", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_candidate_is_orthonormal_and_takes_energy_away(tool):
    rows = {row["refresh"]: row for row in tool.compare(12, repeats=1)}
    assert rows.keys() == tool.CANDIDATES.keys()
    for row in rows.values():
        assert row["orthonormality"] < 1e-5
        assert 0 <= row["energy_left"] < 1
    assert rows["eigh"]["energy_left"] < 1e-20
    for name in ("qr", "cayley"):
        assert rows[f"{name} x4"]["energy_left"] < rows[name]["energy_left"]
