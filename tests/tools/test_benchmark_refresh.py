"""The ways to refresh V that are compared: all orthonormal, and better than doing nothing."""

import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmark_refresh")


def test_every_candidate_is_orthonormal_and_takes_energy_away(tool):
    rows = {row["refresh"]: row for row in tool.compare(12, repeats=1)}
    assert rows.keys() == tool.CANDIDATES.keys()
    for row in rows.values():
        assert row["orthonormality"] < 1e-5
        assert 0 <= row["energy_left"] < 1
    assert rows["eigh"]["energy_left"] < 1e-20
    for name in ("qr", "cayley"):
        assert rows[f"{name} x4"]["energy_left"] < rows[name]["energy_left"]


def test_writes_a_row_for_every_candidate_and_size(tool, tmp_path, capsys):
    given = ["--sizes", "12", "18", "--repeats", "1", "--out", str(tmp_path)]
    assert tool.main(given) == 0
    text = (tmp_path / tool.NAME).read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "python tools/benchmark_refresh.py --sizes 12 18 --repeats 1\n" in text
    assert sum(line.startswith(("| 12 |", "| 18 |")) for line in text.splitlines()) == 2 * len(
        tool.CANDIDATES
    )
